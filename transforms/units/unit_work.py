"""One unit from its prepared rows to its commit record."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import time
from collections.abc import Sequence

from bulkembed.schemas.errors import BulkEmbedError
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.stop import StopReason
from bulkembed.schemas.units import CallCounts, UnitRecord
from bulkembed.transforms.calls.caller import Sink
from bulkembed.transforms.calls.embedder import Embedder
from bulkembed.transforms.calls.stopping import StopFlag
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.dataset import run_file
from bulkembed.transforms.dataset.commit import commit_unit
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.kept_answers import AnswerWriter, KeptAnswers, unit_writer
from bulkembed.transforms.units.contents import DistinctContents
from bulkembed.transforms.units.dead_rows import DeadRowBudget
from bulkembed.transforms.units.outcome import UnitOutcome
from bulkembed.transforms.units.prepare import PreparedUnit
from bulkembed.transforms.units.shared_texts import SharedOutcome
from bulkembed.transforms.units.tally import Tally, committed_rows

log = logging.getLogger("bulkembed")


@dataclasses.dataclass(frozen=True, slots=True)
class UnitWorker:
    """What it takes to embed and commit a unit; one a process."""

    job: JobConfig
    embedder: Embedder
    dataset: Dataset
    stop: StopFlag
    known: KeptAnswers
    budget: DeadRowBudget
    tally: Tally = dataclasses.field(default_factory=Tally)
    told: set[str] = dataclasses.field(default_factory=set)
    """Kept columns whose lost values were logged."""

    async def embed(self, prepared: PreparedUnit) -> UnitRecord | None:
        """Embeds a unit and commits it, or its finished prefix where the run is to end.

        Returns:
            The record, or None where not one row was finished.

        Raises:
            OutputError: the unit could not be written.
        """
        redo, started = prepared.redo, time.monotonic()
        self._tell_of_lost_values(prepared)
        generation = redo.generation + 1 if redo else 0
        kept = unit_writer(self.dataset, self.job, prepared.unit, generation)
        record = None
        outcome = UnitOutcome(prepared, self.job, kept, self.budget)
        self.tally.begin(outcome)
        try:
            await self._embed(outcome.restore(self.known), outcome)
            record = await asyncio.to_thread(self._commit, outcome, redo, started)
            self._count_bad_rows(prepared)
        finally:
            self.tally.end(outcome, committed_rows(record, redo) if record else None)
            kept.close(committed=record is not None and record.unit == prepared.unit)
        return record

    async def embed_shared(self, texts: DistinctContents, kept: AnswerWriter) -> CallCounts:
        """Embeds texts that units share, but for those that are there already.

        Returns:
            What the calls came to.

        Raises:
            OutputError: the vectors cannot be kept.
        """
        outcome = SharedOutcome(texts, self.job.embedding, kept)
        self.tally.begin(outcome)
        try:
            await self._embed(outcome.restore(self.known), outcome)
        finally:
            self.tally.end(outcome)
        return outcome.counts()

    def _tell_of_lost_values(self, prepared: PreparedUnit) -> None:
        """Logs once for each kept column that some of its values cannot be written."""
        for name in sorted(prepared.rows.unkept - self.told):
            self.told.add(name)
            kind = self.job.row_schema.field(name).type
            log.warning("column %r: values that cannot be written as %s are null", name, kind)

    def _count_bad_rows(self, prepared: PreparedUnit) -> None:
        """Counts rows that could not be sent: after the commit, so that they can be looked at."""
        bad = [row for row in prepared.dead if not row.code.is_skip]
        if bad:
            self.budget.spend(len(bad), f"{bad[-1].code}: {bad[-1].message}")

    async def _embed(self, items: Sequence[Content], outcome: Sink) -> None:
        try:
            await self.embedder.embed(items, outcome)
        except BaseExceptionGroup as group:
            # The calls of a unit fail as a group, even where one alone does.
            ours = group.subgroup(BulkEmbedError)
            if ours is None:
                raise
            raise _first_of(ours) from None

    def _commit(
        self, outcome: UnitOutcome, redo: UnitRecord | None, started: float
    ) -> UnitRecord | None:
        stop = self.stop.stop
        if stop is not None and stop.reason is StopReason.TAKEN_OVER:
            return None
        finished = outcome.finish()
        if finished is None:
            return None
        record, tables = finished
        record = dataclasses.replace(record, seconds=time.monotonic() - started)
        dataset, job = self.dataset, self.job
        check_ownership = functools.partial(run_file.check_ownership, dataset, job)
        return commit_unit(dataset, job.output, record, tables, redo, check_ownership)


def _first_of(group: BaseExceptionGroup[BulkEmbedError]) -> BulkEmbedError:
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first
