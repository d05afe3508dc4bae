"""Which rows of a unit have their fate, by the fates of the texts that are sent for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from transforms.engine.text_items import Passage


class RowFates:
    """Rows are named by their offsets.

    A row has its fate once all of its passages have vectors, or one of them is given up on: then
    the row is, whatever becomes of the others.

    Args:
        passages: of each row; none for a row that is not sent.
        items: how many distinct texts there are.
    """

    def __init__(self, passages: Sequence[tuple[Passage, ...]], items: int) -> None:
        self._passages = passages
        self._missing = [len(row) for row in passages]
        self._rows_of: list[list[int]] = [[] for _ in range(items)]
        for offset, row in enumerate(passages):
            for passage in row:
                self._rows_of[passage.item].append(offset)
        self._dead: set[int] = set()
        self.done = 0
        """Rows that have their fate, of those that are sent."""

    def embedded(self, items: Iterable[int]) -> None:
        """These texts have vectors."""
        for item in items:
            for row in self._rows_of[item]:
                self._missing[row] -= 1
                if not self._missing[row] and row not in self._dead:
                    self.done += 1

    def of(self, item: int) -> list[int]:
        """The rows that a text is sent for and that are not given up on, ascending."""
        return [row for row in dict.fromkeys(self._rows_of[item]) if row not in self._dead]

    def give_up(self, rows: Sequence[int]) -> None:
        """These rows are given up on."""
        self.done += sum(self._missing[row] > 0 for row in rows)
        self._dead.update(rows)

    def finished(self) -> int:
        """The length of the longest prefix of rows that all have their fate."""
        for row, missing in enumerate(self._missing):
            if missing and row not in self._dead:
                return row
        return len(self._missing)

    def embedded_rows(self, end: int) -> list[int]:
        """Of the rows before `end`, which are finished, those that have all of their vectors."""
        return [row for row in range(end) if self._passages[row] and row not in self._dead]
