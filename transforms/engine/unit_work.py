"""One unit from its prepared rows to its commit record."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

from schemas.deadletters import DeadCode
from schemas.embedding import LongText
from schemas.errors import BulkEmbedError, CallRefused
from schemas.job import JobConfig
from schemas.units import UnitRecord
from transforms.core.packing import TextItem
from transforms.engine.caller import Caller
from transforms.engine.dead_rows import DeadRowBudget
from transforms.engine.outcome import UnitOutcome
from transforms.engine.prepare import PreparedUnit
from transforms.engine.stopping import StopFlag
from transforms.storage.dataset import Dataset, commit_unit
from transforms.storage.spill import Spill


@dataclasses.dataclass(frozen=True, slots=True)
class UnitWorker:
    """What it takes to embed and commit a unit; one a process."""

    job: JobConfig
    caller: Caller
    dataset: Dataset
    stop: StopFlag
    spill: Spill
    budget: DeadRowBudget

    async def embed(self, prepared: PreparedUnit) -> UnitRecord | None:
        """Embeds a unit and commits it, or its finished prefix where the run is to end.

        Returns:
            The record, or None where not one row was finished.

        Raises:
            OutputError: the unit could not be written.
        """
        redo = prepared.redo
        spill = self.spill.writer(prepared.unit, redo.generation + 1 if redo else 0)
        record = None
        try:
            outcome = UnitOutcome(prepared, self.job, spill, self.budget)
            items = await self._short_enough(outcome.restore(self.spill), outcome)
            await self._embed(items, outcome)
            record = await asyncio.to_thread(self._commit, outcome, redo)
            self._count_bad_rows(prepared)
        finally:
            spill.close(committed=record is not None and record.unit == prepared.unit)
        return record

    def _count_bad_rows(self, prepared: PreparedUnit) -> None:
        """Counts rows that could not be sent: after the commit, so that they can be looked at."""
        bad = [row for row in prepared.dead if not row.code.is_skip]
        if bad:
            self.budget.spend(len(bad), f"{bad[-1].code}: {bad[-1].message}")

    async def _embed(self, items: Sequence[TextItem], outcome: UnitOutcome) -> None:
        try:
            await self.caller.embed(items, outcome)
        except BaseExceptionGroup as group:
            # The calls of a unit fail as a group, even where one alone does.
            ours = group.subgroup(BulkEmbedError)
            if ours is None:
                raise
            raise _first_of(ours) from None

    def _commit(self, outcome: UnitOutcome, redo: UnitRecord | None) -> UnitRecord | None:
        finished = outcome.finish()
        if finished is None:
            return None
        return commit_unit(self.dataset, self.job.output, *finished, replaces=redo)

    async def _short_enough(
        self, items: Sequence[TextItem], outcome: UnitOutcome
    ) -> Sequence[TextItem]:
        """The texts that may be sent; those that the service counts too long are given up on.

        UTF-8 bytes bound the tokens, so that only longer texts are asked about.  Where the service
        does not count, the text is sent, and `truncated` stays null.
        """
        spec = self.job.embedding.spec
        if self.job.embedding.long_text is LongText.TRUNCATE:
            return items
        doubtful = [item for item in items if item.most_tokens > spec.max_tokens]
        counts = await asyncio.gather(*map(self.caller.count_tokens, doubtful))
        too_long = set()
        for item, tokens in zip(doubtful, counts, strict=True):
            if tokens is not None and tokens > spec.max_tokens:
                too_long.add(item.index)
                message = f"the text has {tokens:,} tokens, {spec.name} takes {spec.max_tokens:,}"
                outcome.dead(item, DeadCode.TOO_LONG, CallRefused(message), attempts=0)
        return [item for item in items if item.index not in too_long]


def _first_of(group: BaseExceptionGroup[BulkEmbedError]) -> BulkEmbedError:
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first
