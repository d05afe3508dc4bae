"""What became of a unit's texts: answers in, finished prefix and tables out."""

from __future__ import annotations

import collections
import dataclasses
import mmap
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.embedding import EmbeddingConfig, LongText
from bulkembed.schemas.errors import CallError
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.live import LiveCounts
from bulkembed.schemas.units import CallCounts, UnitRecord, count_codes
from bulkembed.transforms.calls.caller import counted_tokens
from bulkembed.transforms.calls.stopping import StopFlag
from bulkembed.transforms.clients.decode import Answer
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.vectors import NO_MEAN, Matrix, to_unit_length
from bulkembed.transforms.dataset.commit import UnitTables
from bulkembed.transforms.dataset.kept_answers import AnswerWriter
from bulkembed.transforms.dataset.known_vectors import KnownVectors, distinct_keys
from bulkembed.transforms.units.contents import Passage
from bulkembed.transforms.units.dead_rows import DeadRowBudget
from bulkembed.transforms.units.prepare import DeadRow, PreparedUnit
from bulkembed.transforms.units.tables import TableMaker


class AnswerRecorder:
    """Stores the answers of a unit's calls, or of calls for shared texts, and counts them.

    Args:
        embedding: the settings of the vectors.
        kept: where answers that are paid but not committed are stored.
    """

    def __init__(self, embedding: EmbeddingConfig, kept: AnswerWriter) -> None:
        self._embedding = embedding
        self._kept = kept
        self._calls = self._retried = self._texts = self._tokens = 0

    def record(
        self, items: Sequence[Content], answer: Answer, attempts: int
    ) -> tuple[Matrix, list[bool | None]]:
        """Store one answer.

        Returns:
            The vectors to write, (n, dim) in the order of the items, and for each item whether the
            service cut its text; None if that is unknown.

        Raises:
            OutputError: the answer cannot be stored.
        """
        vectors = answer.vectors
        if self._embedding.normalize:
            vectors = to_unit_length(vectors)
        flags = answer.truncated or (None,) * len(items)
        max_tokens = self._embedding.spec.max_tokens
        truncated = [
            item.is_cut or (False if flag is None and item.token_bound <= max_tokens else flag)
            for item, flag in zip(items, flags, strict=True)
        ]
        self._kept.append([item.hash for item in items], vectors, truncated)
        self._calls += 1
        self._retried += attempts - 1
        self._texts += len(items)
        self._tokens += counted_tokens(items, answer)
        return vectors, truncated

    def counts(self, repeated: int) -> CallCounts:
        """Return the counts of the calls; see CallCounts for `repeated`."""
        return CallCounts(self._calls, self._retried, self._texts, self._tokens, repeated)

    def live(self) -> LiveCounts:
        """Return the counts so far, for progress."""
        return LiveCounts(texts=self._texts, tokens=self._tokens)


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


class UnitOutcome:
    """The fate of each text of a unit; the sink that the caller writes to."""

    def __init__(
        self,
        prepared: PreparedUnit,
        job: JobConfig,
        kept: AnswerWriter | None = None,
        budget: DeadRowBudget | None = None,
    ) -> None:
        self._prepared = prepared
        self._job = job
        self._tables = TableMaker(job, prepared)
        self._answers = AnswerRecorder(job.embedding, kept or AnswerWriter(None))
        self._budget = budget or DeadRowBudget(None, StopFlag())
        self._vectors: Matrix | None = None
        self._has_vector = np.zeros(len(prepared.items), dtype=bool)
        self._truncated: list[bool | None] = [None] * len(prepared.items)
        self._dead: dict[int, DeadRow] = {}
        self._rows = RowFates(prepared.passages, len(prepared.items))
        self._shared: set[int] = set()

    def restore(self, source: KnownVectors) -> list[Content]:
        """Takes over vectors that are paid for already; gives the texts still to send."""
        indexes: dict[bytes, list[int]] = collections.defaultdict(list)
        for index, name in enumerate(self._prepared.hashes):
            indexes[name].append(index)
        for block in source.find(distinct_keys(self._prepared.hashes)).read():
            for name, vector, cut in zip(block.hashes, block.vectors, block.truncated, strict=True):
                for index in indexes.get(name, ()):
                    self._room(len(vector))[index] = vector
                    self._has_vector[index] = True
                    self._truncated[index] = cut
                    if block.of_other_rows:
                        self._shared.add(index)
        self._rows.embedded(np.flatnonzero(self._has_vector).tolist())
        return [item for item in self._prepared.items if not self._has_vector[item.index]]

    def embedded(self, items: Sequence[Content], answer: Answer, attempts: int) -> None:
        """Writes down the vectors of one answered call."""
        vectors, truncated = self._answers.record(items, answer, attempts)
        where = [item.index for item in items]
        # As a rule the texts of a call stand side by side, and a slice is copied much faster.
        run = slice(where[0], where[-1] + 1)
        places = run if where == list(range(run.start, run.stop)) else where
        self._room(vectors.shape[1])[places] = vectors
        self._has_vector[places] = True
        for index, flag in zip(where, truncated, strict=True):
            self._truncated[index] = flag
        self._rows.embedded(where)

    def dead(self, item: Content, code: DeadCode, error: CallError, attempts: int) -> None:
        """Writes down that a text is given up on, and with it the rows that it is sent for."""
        rows = self._rows.of(item.index)
        if code is DeadCode.TOO_LONG and self._job.embedding.long_text is LongText.STOP:
            unit = self._prepared.unit
            return self._budget.end(
                f"row {unit.first_row + rows[0]} of {self._prepared.source_file}: {error.message}; "
                "choose another --long-text"
            )
        for row in rows:
            message = f"{self._place(row, item.index)}{error.message}"
            self._note_dead([row], DeadRow(row, code, message, error.http_status, attempts))
        return None

    def live(self) -> LiveCounts:
        """What the unit has come to so far."""
        ready = len(self._prepared.dead) + self._rows.done
        return dataclasses.replace(self._answers.live(), ready=ready)

    def finish(self) -> tuple[UnitRecord, UnitTables] | None:
        """Record and tables of the finished prefix; None where not one row is finished.

        A unit that is done anew is finished as a whole or not at all: its old record stands.
        """
        redo = self._prepared.redo
        rows = self._rows.finished()
        if rows == 0 or (redo is not None and rows < redo.unit.rows):
            return None
        vectors = self._vector_table(rows)
        dead = self._dead_rows(rows)
        record = self._record(rows, [row.code for row in dead], vectors)
        return record, UnitTables(vectors, self._tables.dead_letters(dead) if dead else None)

    def _vector_table(self, rows: int) -> pa.Table | None:
        """The vectors of the first rows, which are finished; gives up on rows that have no mean."""
        embedded = self._rows.embedded_rows(rows)
        if self._vectors is None:
            return None
        means = self._tables.means(embedded, self._vectors)
        without = [row for row, mean in means.items() if mean is None]
        self._note_dead(without, DeadRow(-1, DeadCode.NO_MEAN, NO_MEAN))
        kept = self._rows.embedded_rows(rows)
        return self._tables.vectors(kept, self._vectors, self._truncated, means) if kept else None

    def _record(self, rows: int, codes: list[DeadCode], vectors: pa.Table | None) -> UnitRecord:
        kept = self._rows.embedded_rows(rows)
        redo = self._prepared.redo
        skipped = sum(code.is_skip for code in codes)
        written = vectors.num_rows if vectors is not None else 0
        return UnitRecord(
            unit=dataclasses.replace(self._prepared.unit, rows=rows),
            embedded=len(kept) + (redo.embedded if redo else 0),
            dead=len(codes) - skipped,
            skipped=skipped,
            generation=redo.generation + 1 if redo else 0,
            source_file=self._prepared.source_file,
            run_id=self._job.run_id,
            codes=count_codes(codes),
            counts=self._counts(kept),
            vector_parts=redo.vector_parts if redo else (),
            vectors=written + (redo.vectors if redo else 0),
            run_number=self._job.run_number,
            embedding_digest=self._job.digest,
        )

    def _note_dead(self, rows: Sequence[int], why: DeadRow) -> None:
        """Gives up on rows for one reason."""
        self._rows.give_up(rows)
        self._dead.update({row: dataclasses.replace(why, offset=row) for row in rows})
        if not why.code.is_skip:
            self._budget.spend(len(rows), f"{why.code}: {why.message}")

    def _place(self, row: int, item: int) -> str:
        """Where in a row's text an item stands; nothing where it is all of it."""
        passages = self._prepared.passages[row]
        number = [passage.item for passage in passages].index(item)
        _, start, end = passages[number]
        return f"passage {number}, characters {start} to {end}: " if len(passages) > 1 else ""

    def _room(self, dim: int) -> Matrix:
        """The matrix of the unit's distinct texts, made when the first vector shows its length."""
        if self._vectors is None:
            # Pages of its own, which go back when it does: out of malloc's heap blocks of this size
            # leave holes, and the process grows.
            shape = (len(self._prepared.items), dim)
            pages = mmap.mmap(-1, max(1, 4 * shape[0] * shape[1]))
            self._vectors = np.ndarray(shape, np.float32, buffer=pages)
        return self._vectors

    def _counts(self, kept: Sequence[int]) -> CallCounts:
        items = [passage.item for offset in kept for passage in self._prepared.passages[offset]]
        return self._answers.counts(len(items) - len(set(items) - self._shared))

    def _dead_rows(self, rows: int) -> list[DeadRow]:
        found = (*self._prepared.dead, *self._dead.values())
        return sorted((row for row in found if row.offset < rows), key=lambda row: row.offset)
