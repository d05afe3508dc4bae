"""Embed one prepared unit, or a group of small ones, and commit it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.stop import StopReason
from bulkembed.schemas.units import CallCounts, UnitRecord
from bulkembed.transforms.calls.embedder import Embedder
from bulkembed.transforms.calls.stopping import StopFlag
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.dataset import run_file
from bulkembed.transforms.dataset.batch_answers import RejectedText
from bulkembed.transforms.dataset.commit import UnitTables, commit_group, commit_unit
from bulkembed.transforms.dataset.committed_source import CommittedSource
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.kept_answers import AnswerSink, KeptAnswers, unit_writer
from bulkembed.transforms.dataset.known_vectors import KnownVectors
from bulkembed.transforms.units.claims import Claim, Claims
from bulkembed.transforms.units.distinct_contents import DistinctContents
from bulkembed.transforms.units.group_outcome import GroupOutcome
from bulkembed.transforms.units.outcome import UnitOutcome
from bulkembed.transforms.units.prepare import PreparedUnit, has_unplanned_media
from bulkembed.transforms.units.shared_texts import SharedOutcome
from bulkembed.transforms.units.tally import FailureLimit, Tally, committed_rows
from bulkembed.transforms.units.whole_texts import take_whole_texts

log = logging.getLogger("bulkembed")


@dataclasses.dataclass(frozen=True, slots=True)
class UnitWorker:
    """Embeds and commits units; one in each process."""

    job: JobConfig
    embedder: Embedder
    dataset: Dataset
    stop: StopFlag
    known: KeptAnswers
    limit: FailureLimit
    tally: Tally = dataclasses.field(default_factory=Tally)
    rejected: Mapping[bytes, RejectedText] = dataclasses.field(default_factory=dict)
    """The texts that the service rejected in batch jobs, by their hashes."""
    committed: CommittedSource | None = None
    """Looks up media that was fetched; None if it is sent whatever is committed."""
    claims: Claims = dataclasses.field(default_factory=Claims)
    """The contents with media that units of this process send."""
    warned_columns: set[str] = dataclasses.field(default_factory=set)
    """Kept columns for which a warning was logged."""

    async def embed(
        self, prepared: PreparedUnit, known: KnownVectors | None = None
    ) -> tuple[UnitRecord, ...]:
        """Embed a unit or a group and commit it; if the run must stop, its first finished rows.

        Args:
            prepared: the unit, or a group of units.
            known: its known vectors; those of kept answers are preferred.

        Returns:
            The record of each unit with finished rows. A unit that needs a text that would have to
            be sent and must not has none.

        Raises:
            OutputError: the unit cannot be written, or its known vectors cannot be read.
        """
        retry_of, started = prepared.retry_of, time.monotonic()
        sources: list[KnownVectors] = [self.known, *([known] if known is not None else [])]
        if self.committed is not None and has_unplanned_media(prepared):
            sources.append(self.committed)
        # Known vectors are read from files, which must not delay requests in flight.
        with self.embedder.expecting():
            prepared, whole = await asyncio.to_thread(
                take_whole_texts, prepared, self.job.embedding, sources
            )
        self._warn_of_nulls(prepared)
        generation = retry_of.generation + 1 if retry_of else 0
        kept = unit_writer(self.dataset, self.job, prepared.unit, generation)
        records: tuple[UnitRecord, ...] = ()
        kind = GroupOutcome if prepared.members else UnitOutcome
        outcome = kind(prepared, self.job, kept, self.limit)
        self.tally.begin(outcome)
        try:
            with self.embedder.expecting():
                due = await asyncio.to_thread(outcome.restore, *sources, read=whole)
            del known, sources, whole  # The vectors that were in memory are copied.
            if self.job.batch:
                due = outcome.reject(due, self.rejected)
            due = due if self.job.sends_online else []
            with self._claimed(due) as claim:
                await self.embedder.embed(claim.own, outcome)
                if claim.elsewhere:
                    await self._take_or_embed(claim, outcome)
                records = await asyncio.to_thread(self._commit, outcome, retry_of, started)
                if self.committed is not None:
                    self.committed.add(records)
            if records:
                self._count_failures(prepared)
        finally:
            self.tally.end(outcome, *(committed_rows(record, retry_of) for record in records))
            kept.close(committed=bool(records) and not outcome.has_other_answers())
        return records

    async def embed_shared(self, texts: DistinctContents, kept: AnswerSink) -> CallCounts:
        """Embed texts that units share, except those with a known vector.

        Returns:
            The counts of the requests.

        Raises:
            OutputError: the vectors cannot be kept.
        """
        outcome = SharedOutcome(texts, self.job.embedding, kept)
        self.tally.begin(outcome)
        try:
            sources = (self.known, self.committed) if self.committed is not None else (self.known,)
            with self.embedder.expecting():
                due = await asyncio.to_thread(outcome.restore, *sources)
            with self._claimed(due) as claim:
                await self.embedder.embed(claim.own, outcome)
        finally:
            self.tally.end(outcome)
        return outcome.counts()

    def _claimed(self, due: Sequence[Content]) -> AbstractContextManager[Claim]:
        """Return the contents to send here; all of them if the plan knows which ones are shared."""
        if self.committed is None:
            return contextlib.nullcontext(Claim([*due], [], []))
        return self.claims.claim(due)

    async def _take_or_embed(self, claim: Claim, outcome: UnitOutcome) -> None:
        """Take the vectors of contents that other units have sent; send those that have failed."""
        assert self.committed is not None
        await claim.others_ended()
        await asyncio.to_thread(self.committed.refresh)
        due = await asyncio.to_thread(outcome.take, self.committed, claim.elsewhere)
        await self.embedder.embed(due, outcome)

    def _warn_of_nulls(self, prepared: PreparedUnit) -> None:
        """Warn once for each kept column with values that cannot be written."""
        for name in sorted(prepared.rows.unkept - self.warned_columns):
            self.warned_columns.add(name)
            kind = self.job.row_schema.field(name).type
            log.warning("column %r: values that cannot be written as %s are null", name, kind)

    def _count_failures(self, prepared: PreparedUnit) -> None:
        """Count the rows that could not be sent, after the commit has written their reasons."""
        failures = [failure for failure in prepared.failed.values() if not failure.code.is_skip]
        if failures:
            self.limit.add(len(failures), f"{failures[-1].code}: {failures[-1].message}")

    def _commit(
        self, outcome: UnitOutcome, retry_of: UnitRecord | None, started: float
    ) -> tuple[UnitRecord, ...]:
        stop = self.stop.stop
        if stop is not None and stop.reason is StopReason.TAKEN_OVER:
            return ()
        # If nothing may be sent, a unit is committed as a whole or not at all.
        finished = outcome.finish_units(whole=not self.job.sends_online)
        records: list[UnitRecord] = []
        for found, tables in finished:
            # Of the time of a group, each unit has a share by its rows.
            row_s = (time.monotonic() - started) / sum(record.unit.rows for record in found)
            timed = [
                dataclasses.replace(record, seconds=row_s * record.unit.rows) for record in found
            ]
            records += self._write(timed, tables, retry_of)
        return tuple(records)

    def _write(
        self, records: Sequence[UnitRecord], tables: UnitTables, retry_of: UnitRecord | None
    ) -> Sequence[UnitRecord]:
        """Write a unit, or several as a group."""
        dataset, job = self.dataset, self.job
        check_ownership = functools.partial(run_file.check_ownership, dataset, job)
        if len(records) == 1:
            (record,) = records
            return [commit_unit(dataset, job.output, record, tables, retry_of, check_ownership)]
        return commit_group(dataset, job.output, records, tables, check_ownership)
