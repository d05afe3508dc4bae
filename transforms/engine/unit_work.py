"""One unit from its prepared rows to its commit record."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

from schemas.deadletters import DeadCode
from schemas.embedding import LongText
from schemas.errors import CallRefused
from schemas.job import JobConfig
from schemas.stop import StopReason
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
        spill = self.spill.writer(prepared.unit)
        record = None
        try:
            outcome = UnitOutcome(prepared, self.job, spill, self.budget.spend)
            items = await self._short_enough(outcome.restore(self.spill), prepared, outcome)
            await self.caller.embed(items, outcome)
            record = await asyncio.to_thread(self._commit, outcome, prepared.redo)
        finally:
            spill.close(committed=record is not None and record.unit == prepared.unit)
        return record

    def _commit(self, outcome: UnitOutcome, redo: UnitRecord | None) -> UnitRecord | None:
        finished = outcome.finish()
        if finished is None:
            return None
        return commit_unit(self.dataset, self.job.output, *finished, replaces=redo)

    async def _short_enough(
        self, items: Sequence[TextItem], prepared: PreparedUnit, outcome: UnitOutcome
    ) -> Sequence[TextItem]:
        """The texts that may be sent; those that the service counts too long are given up on.

        UTF-8 bytes bound the tokens, so that only longer texts are asked about.  Where the service
        does not count, the text is sent, and `truncated` stays null.
        """
        policy, most = self.job.embedding.long_text, self.job.embedding.spec.max_tokens
        if policy is LongText.TRUNCATE:
            return items
        doubtful = [item for item in items if len(item.text.encode()) > most]
        counts = await asyncio.gather(*(self.caller.count_tokens(i.text) for i in doubtful))
        too_long = set()
        for item, tokens in zip(doubtful, counts, strict=True):
            if tokens is not None and tokens > most:
                too_long.add(item.index)
                self._too_long(item, tokens, prepared, outcome)
        return [item for item in items if item.index not in too_long]

    def _too_long(
        self, item: TextItem, tokens: int, prepared: PreparedUnit, outcome: UnitOutcome
    ) -> None:
        spec = self.job.embedding.spec
        message = f"the text has {tokens:,} tokens, {spec.name} takes {spec.max_tokens:,}"
        if self.job.embedding.long_text is LongText.STOP:
            row = prepared.unit.first_row + prepared.item_of.index(item.index)
            return self.stop.set(
                StopReason.BROKEN,
                f"row {row} of {prepared.source_file}: {message}; choose another --long-text",
            )
        return outcome.dead(item, DeadCode.TOO_LONG, CallRefused(message), attempts=0)
