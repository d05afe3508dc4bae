"""New batch jobs of both APIs: their rows are read, and their end is drawn."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bulkembed.emulator.batch_jobs import Job, JobStore
from bulkembed.emulator.batch_results import job_failure, plan_results
from bulkembed.emulator.batch_rows import RowTable, scan, scan_unchecked
from bulkembed.emulator.calls import State
from bulkembed.emulator.media_uris import UriReader
from bulkembed.emulator.targets import Target


class JobMaker:
    """Makes jobs and adds them to a store."""

    def __init__(self, state: State, jobs: JobStore, uris: UriReader) -> None:
        self._state, self._jobs, self._uris = state, jobs, uris
        self._random = random.Random(f"{state.settings.seed} jobs")

    async def make(
        self, target: Target, lines: Path, id: str, admit: Callable[[Job], None], **facts: Any
    ) -> Job:
        """Add a job of the lines of a file, unless `admit` raises.

        The file is the job's own. `facts` are further fields of the job.
        """
        target = dataclasses.replace(target, uris=self._uris)
        table = await asyncio.to_thread(self._scan, target, lines)
        number = self._jobs.next_number()
        outcome, seconds = self._jobs.next_outcome(self._random.random())
        facts.setdefault("failure", job_failure(target, table))
        job = Job(
            number, id, target, created=self._state.clock.now(), seconds=seconds,
            outcome=outcome, table=table, plan=plan_results(target, table, number), **facts,
        )  # fmt: skip
        try:
            admit(job)
        except BaseException:
            lines.unlink(missing_ok=True)
            raise
        self._jobs.add(job)
        return job

    def _scan(self, target: Target, lines: Path) -> RowTable:
        canned = self._state.settings.canned and not target.vertex
        return scan_unchecked(lines) if canned else scan(target, lines)
