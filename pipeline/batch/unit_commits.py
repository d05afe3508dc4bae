"""The units of a run in batch mode: the texts that they lack, and their commits."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from bulkembed.pipeline.batch.wanted_texts import PlanWindow, find_texts
from bulkembed.pipeline.run.plan import Plan
from bulkembed.pipeline.run.reuse import ReusedDataset
from bulkembed.pipeline.run.sharing import Sharing, find_sharing
from bulkembed.pipeline.run.text_search import media_row_keys
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.stop import RERUN, StopReason
from bulkembed.transforms.batch.run_stop import RunStop
from bulkembed.transforms.core.hashing import Keys
from bulkembed.transforms.dataset.batch_answers import rejected_keys
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.kept_answers import KeptAnswers
from bulkembed.transforms.dataset.row_contents import RowContents
from bulkembed.transforms.units.slices import remaining_units

Embed = Callable[[JobConfig, Plan, Sharing], dict[str, int]]
"""Embeds units by the runner of the job, and returns its counters."""


@dataclasses.dataclass(slots=True)
class UnitCommits:
    """Finds out what units lack, and commits them.

    All methods raise InputError or OutputError: a file cannot be read, or a disk is full.
    """

    dataset: Dataset
    job: JobConfig
    stop: RunStop
    reused: Sequence[ReusedDataset]
    folder: Path
    """On a local disk."""
    embed: Embed
    counters: collections.Counter[str]
    """The counters of the run, to which commits add."""
    contents: RowContents
    """The contents of rows with media that were read."""
    attempts: int
    """How often units are prepared again whose files change whenever they are read."""
    _stuck: int = 0
    """How often that was so, one after the other."""

    def left(self, plan: Plan) -> Plan:
        """Return the units of a plan that are not committed."""
        state = self.dataset.state()
        covered = state.covered()
        found = (remaining_units(file, state, covered) for file in plan.work)
        return dataclasses.replace(plan, work=tuple(file for file in found if file.units))

    def find_texts(self, plan: Plan) -> PlanWindow:
        """Search the texts of units in all sources of known vectors."""
        state, settled = self.dataset.state(), self._settled()
        return find_texts(
            self.dataset, self.job, plan, state, self.folder, self.reused, settled, self.contents
        )

    def commit(self, plan: Plan, sharing: Sharing, *, online: bool = False) -> None:
        """Commit units, given their known vectors; `online` sends the texts that have none.

        If no unit is committed, the run is stopped.
        """
        before = self.dataset.state().records
        job = dataclasses.replace(self.job, sends_online=online)
        self.counters.update(self.embed(job, plan, sharing))
        if self.stop.is_set():
            return
        changed = not online and self._read_changed(plan)
        if self.dataset.state().records != before:
            self._stuck = 0
            return
        self._stuck += 1
        if not changed or self._stuck > self.attempts:
            why = "" if not changed else ", or media changes whenever it is read"
            self.stop.set(
                StopReason.BROKEN,
                f"the answers of batch jobs cannot be read back from {self.dataset.root}{why}. "
                f"{RERUN}",
            )

    def commit_online(self, plan: Plan) -> None:
        """Commit units, and send the texts online that have no known vector."""
        state, settled = self.dataset.state(), self._settled()
        sharing = find_sharing(
            self.dataset, self.job, plan, state, self.folder, self.reused,
            keep=True, settled=settled, contents=self.contents,
        )  # fmt: skip
        self.commit(plan, sharing, online=True)

    def _read_changed(self, plan: Plan) -> bool:
        """Let rows be read again that lack a vector, as their files have changed; return if any."""
        if self.job.embedding.media is None:
            return False
        changed = 0
        for file in self.left(plan).work:
            for row_keys, _ in media_row_keys(self.job, file):
                changed += self.contents.read_again(row_keys)
        return changed > 0

    def _settled(self) -> Keys:
        """Return the keys of rejected texts, and of those whose kept answers units find."""
        kept = KeptAnswers(self.dataset, self.job)
        kept.refresh()
        return np.union1d(rejected_keys(self.dataset), kept.keys)
