"""Which rows of a unit are finished."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bulkembed.transforms.units.distinct_contents import Passage


class RowProgress:
    """Which rows of a unit are finished; rows are named by their offsets.

    A row is finished once all of its passages have vectors, or once one of them failed: then the
    row has failed, whatever happens to its other passages.

    Args:
        passages: the passages of each row; none for a row that is not sent.
        items: the number of distinct texts.
    """

    def __init__(self, passages: Sequence[tuple[Passage, ...]], items: int) -> None:
        self._passages = passages
        self._missing = [len(row) for row in passages]
        self._rows_of: list[list[int]] = [[] for _ in range(items)]
        for offset, row in enumerate(passages):
            for passage in row:
                self._rows_of[passage.item].append(offset)
        self._failed: set[int] = set()
        self.finished = 0
        """How many of the rows that are sent are finished."""

    def add_vectors(self, items: Iterable[int]) -> None:
        """Note that texts have vectors, each once."""
        for item in items:
            for row in self._rows_of[item]:
                self._missing[row] -= 1
                if not self._missing[row] and row not in self._failed:
                    self.finished += 1

    def with_text(self, item: int) -> list[int]:
        """Return the rows that a text is sent for and that have not failed, ascending."""
        return [row for row in dict.fromkeys(self._rows_of[item]) if row not in self._failed]

    def fail(self, rows: Sequence[int]) -> None:
        """Note that rows failed."""
        self.finished += sum(self._missing[row] > 0 for row in rows)
        self._failed.update(rows)

    def finished_prefix(self, start: int = 0, end: int | None = None) -> int:
        """Return how many rows after a first one, and before `end`, are finished without a gap."""
        last = len(self._missing) if end is None else end
        for row in range(start, last):
            if self._missing[row] and row not in self._failed:
                return row - start
        return last - start

    def embedded_rows(self, rows: Iterable[int]) -> list[int]:
        """Return those with vectors among some rows, which are finished."""
        return [row for row in rows if self._passages[row] and row not in self._failed]
