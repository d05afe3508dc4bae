"""The outcome of a unit: answers come in, tables of its finished rows and its record come out."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Container, Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.embedding import LongText
from bulkembed.schemas.errors import CallError, CallRejected
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.live import LiveCounts
from bulkembed.schemas.units import CallCounts, UnitRecord, count_codes
from bulkembed.transforms.calls.stopping import StopFlag
from bulkembed.transforms.clients.decoding import Answer
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.vectors import NO_MEAN, Vector
from bulkembed.transforms.dataset.batch_answers import RejectedText
from bulkembed.transforms.dataset.commit import UnitTables
from bulkembed.transforms.dataset.kept_answers import AnswerSink
from bulkembed.transforms.dataset.known_vectors import KnownVectors, VectorBlock, distinct_keys
from bulkembed.transforms.units.distinct_contents import RowFailure
from bulkembed.transforms.units.prepare import PreparedUnit
from bulkembed.transforms.units.row_progress import RowProgress
from bulkembed.transforms.units.tally import FailureLimit
from bulkembed.transforms.units.text_vectors import AnswerRecorder, TextVectors
from bulkembed.transforms.units.unit_tables import TableMaker

FinishedUnits = tuple[tuple[UnitRecord, ...], UnitTables]
"""Units that are committed together: their records without parts, and their rows in this order."""


class UnitOutcome:
    """The outcome of each row of a unit; the receiver of the caller's results."""

    def __init__(
        self,
        prepared: PreparedUnit,
        job: JobConfig,
        kept: AnswerSink | None = None,
        limit: FailureLimit | None = None,
    ) -> None:
        self._prepared = prepared
        self._job = job
        self._tables = TableMaker(job, prepared)
        self._answers = AnswerRecorder(job.embedding, kept)
        self._limit = limit or FailureLimit(None, StopFlag())
        self._vectors = TextVectors(len(prepared.items))
        self._failed: dict[int, RowFailure] = {}
        self._rows = RowProgress(prepared.passages, len(prepared.items))
        self._of_other_rows: set[int] = set()
        self._reused: set[int] = set()
        self._given_out: set[int] = set()

    def restore(self, *sources: KnownVectors, read: Sequence[VectorBlock] = ()) -> list[Content]:
        """Take the vectors that are already paid for; return the texts to send.

        Args:
            sources: in order of preference.
            read: vectors that were read before, which are preferred.

        Raises:
            OutputError: a source cannot be read.
        """
        for block in read:
            self._take(block, self._missing())
        for source in sources:
            missing = self._missing()
            if missing:
                for block in source.read(distinct_keys(list(missing))):
                    self._take(block, missing)
        self._rows.add_vectors(np.flatnonzero(self._vectors.present).tolist())
        return [item for item in self._prepared.items if not self._vectors.present[item.index]]

    def take(self, source: KnownVectors, items: Sequence[Content]) -> list[Content]:
        """Take the vectors that a source has meanwhile for some texts; return the other texts.

        Raises:
            OutputError: the source cannot be read.
        """
        missing: dict[bytes, list[Content]] = collections.defaultdict(list)
        for item in items:
            missing[item.hash].append(item)
        for block in source.read(distinct_keys(list(missing))):
            self._take(block, missing)
        present = self._vectors.present
        self._rows.add_vectors([item.index for item in items if present[item.index]])
        return [item for item in items if not present[item.index]]

    def reject(
        self, items: Sequence[Content], rejected: Mapping[bytes, RejectedText]
    ) -> list[Content]:
        """Note the texts that the service rejected in batch jobs; return the others."""
        due = []
        for item in items:
            text = rejected.get(item.hash)
            if text is None:
                due.append(item)
            else:
                error = CallRejected(text.message, http_status=text.http_status)
                self.dead(item, text.code, error, attempts=1)
        return due

    def _missing(self) -> dict[bytes, list[Content]]:
        """Return the texts that have no vector yet, by their hashes."""
        items_of: dict[bytes, list[Content]] = collections.defaultdict(list)
        for item in self._prepared.items:
            if not self._vectors.present[item.index]:
                items_of[item.hash].append(item)
        return items_of

    def _take(self, block: VectorBlock, items_of: Mapping[bytes, Sequence[Content]]) -> None:
        """Take the vectors of a block for some texts."""
        found = [
            (item.index, place)
            for place, text_hash in enumerate(block.hashes)
            for item in items_of.get(text_hash, ())
        ]
        if not found:
            return
        indexes, places = map(list, zip(*found, strict=True))
        cut = [block.truncated[place] for place in places]
        are_all = places == list(range(len(block.hashes)))
        self._vectors.put(indexes, block.vectors if are_all else block.vectors[places], cut)
        if block.committed:
            self._reused.update(indexes)
        elif block.of_other_rows:
            self._of_other_rows.update(indexes)

    def embedded(self, items: Sequence[Content], answer: Answer, attempts: int) -> None:
        """Store the vectors of one answered request."""
        vectors, truncated = self._answers.record(items, answer, attempts)
        indexes = [item.index for item in items]
        self._vectors.put(indexes, vectors, truncated)
        self._rows.add_vectors(indexes)

    def dead(self, item: Content, code: DeadCode, error: CallError, attempts: int) -> None:
        """Note that a text failed, and with it the rows that it is sent for."""
        rows = self._rows.with_text(item.index)
        if code is DeadCode.TOO_LONG and self._job.embedding.long_text is LongText.STOP:
            file, row = self._prepared.rows.source(rows[0], self._prepared.source_file)
            return self._limit.stop(
                f"row {row} of {file}: {error.message}. Choose another --long-text."
            )
        for row in rows:
            message = f"{self._place(row, item.index)}{error.message}"
            self._fail([row], RowFailure(code, message, error.http_status, attempts))
        return None

    def live(self) -> LiveCounts:
        """Return the counts so far."""
        ready = len(self._prepared.failed) + self._rows.finished
        return dataclasses.replace(self._answers.live(), ready=ready)

    def finish(self) -> tuple[UnitRecord, UnitTables] | None:
        """Return the record and tables of the first rows that are all finished; None if no row is.

        A retried unit is finished as a whole or not at all; otherwise its old record stays.
        """
        retry_of = self._prepared.retry_of
        rows = self._rows.finished_prefix()
        if rows == 0 or (retry_of is not None and rows < retry_of.unit.rows):
            return None
        self._given_out.update(range(rows))
        means = self._means(range(rows))
        vectors = self._vector_table(self._rows.embedded_rows(range(rows)), means)
        failed = self._failed_rows(range(rows))
        record = self._record(rows, [failure.code for failure in failed.values()], vectors)
        return record, UnitTables(vectors, self._tables.dead_letters(failed) if failed else None)

    def finish_units(self, *, whole: bool = False) -> list[FinishedUnits]:
        """Return what `finish` does, as the units that are to be committed together.

        Args:
            whole: whether a unit of which only the first rows are finished is left out.
        """
        if whole and self._rows.finished_prefix() < len(self._prepared.passages):
            return []
        finished = self.finish()
        return [] if finished is None else [((finished[0],), finished[1])]

    def has_other_answers(self) -> bool:
        """Return whether a row that was not among those of `finish_units` has vectors."""
        present = self._vectors.present
        return any(
            present[passage.item]
            for row, passages in enumerate(self._prepared.passages)
            if row not in self._given_out
            for passage in passages
        )

    def _means(self, rows: Iterable[int]) -> dict[int, Vector | None]:
        """Return the means of finished rows that have several passages; rows without one fail."""
        means = self._tables.means(self._rows.embedded_rows(rows), self._vectors)
        without = [row for row, mean in means.items() if mean is None]
        self._fail(without, RowFailure(DeadCode.NO_MEAN, NO_MEAN))
        return means

    def _vector_table(
        self, embedded: Sequence[int], means: Mapping[int, Vector | None]
    ) -> pa.Table | None:
        """Return the vectors of rows that have them, by their offsets."""
        return self._tables.vectors(embedded, self._vectors, means) if embedded else None

    def _record(self, rows: int, codes: list[DeadCode], vectors: pa.Table | None) -> UnitRecord:
        embedded = self._rows.embedded_rows(range(rows))
        retry_of = self._prepared.retry_of
        skipped = sum(code.is_skip for code in codes)
        written = vectors.num_rows if vectors is not None else 0
        return UnitRecord(
            unit=dataclasses.replace(self._prepared.unit, rows=rows),
            embedded=len(embedded) + (retry_of.embedded if retry_of else 0),
            dead=len(codes) - skipped,
            skipped=skipped,
            generation=retry_of.generation + 1 if retry_of else 0,
            source_file=self._prepared.source_file,
            run_id=self._job.run_id,
            codes=count_codes(codes),
            counts=self._counts(embedded),
            vector_parts=retry_of.vector_parts if retry_of else (),
            part_rows=retry_of.part_rows if retry_of else (),
            vectors=written + (retry_of.vectors if retry_of else 0),
            run_number=self._job.run_number,
            embedding_digest=self._job.digest,
            removed=retry_of.removed if retry_of else 0,
        )

    def _counts(self, embedded: Sequence[int]) -> CallCounts:
        items = [passage.item for row in embedded for passage in self._prepared.passages[row]]
        own = [item for item in items if item not in self._reused]
        repeated = len(own) - len(set(own) - self._of_other_rows)
        return self._answers.counts(repeated, reused=len(items) - len(own))

    def _fail(self, rows: Sequence[int], failure: RowFailure) -> None:
        self._rows.fail(rows)
        self._failed.update(dict.fromkeys(rows, failure))
        if not failure.code.is_skip:
            self._limit.add(len(rows), f"{failure.code}: {failure.message}")

    def _failed_rows(self, rows: Container[int]) -> dict[int, RowFailure]:
        """Return the failures of some rows by offset, ascending."""
        found = {**self._prepared.failed, **self._failed}
        return {row: found[row] for row in sorted(found) if row in rows}

    def _place(self, row: int, item: int) -> str:
        """Return where in a row's text a passage is; nothing if it is the whole text."""
        passages = self._prepared.passages[row]
        number = [passage.item for passage in passages].index(item)
        _, start, end = passages[number]
        if len(passages) == 1:
            return ""
        if self._prepared.media is not None:
            return f"piece {number}, {start:g} to {end:g}: "
        return f"passage {number}, characters {start} to {end}: "
