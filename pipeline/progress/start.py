"""The progress of a run: its goal, and where and how its numbers are found and shown."""

from __future__ import annotations

import dataclasses
import logging
import sys
from pathlib import Path
from typing import TextIO

from pipeline.logs import is_json, log
from pipeline.planning import Plan, Scans
from pipeline.progress.engines_here import EnginesHere
from pipeline.progress.progress import LINE_EVERY_S, Lines, Progress, Show, every_s
from pipeline.progress.screen import PANEL_EVERY_S, Screen, takes_a_panel
from pipeline.progress.snapshot import Goal
from pipeline.progress.sources import CommitRecords, Source, WorkerProcesses
from pipeline.request import RunRequest
from pipeline.settle import dataset_rows
from pipeline.sharing import Sharing
from schemas.job import JobConfig
from schemas.prices import price_of
from schemas.quota import RpmCounts
from transforms.storage.dataset import Dataset, State


def goal_of(
    request: RunRequest,
    job: JobConfig,
    scans: Scans,
    plan: Plan,
    before: State,
    sharing: Sharing,
) -> Goal:
    """What a run set out to do; rows that are tried again count as left, not as dead."""
    rows = dataset_rows(scans, before)
    dead = rows.dead - sum(record.dead for file in plan.work for record in file.redo)
    due = plan.due_rows
    total = rows.embedded + dead + rows.skipped + due
    counts_texts = job.calls.limits.rpm_counts is RpmCounts.TEXTS
    return Goal(
        rows=dataclasses.replace(rows, rows_in=total, dead=dead, left=due),
        before=before,
        shared=sum(file.texts for file in sharing.picks),
        price=price_of(job.embedding.service, job.embedding.model, request.usd_per_mtok),
        texts_a_request=1 if counts_texts else job.calls.texts,
    )


def progress_of(
    goal: Goal, job: JobConfig, folder: Path, *, local: bool, processes: int
) -> Progress:
    """The progress of a run that begins now.

    Args:
        goal: what it set out to do.
        job: what the workers are told.
        folder: where worker processes of this machine leave their numbers.
        local: the work is done on this machine, by Beam's own engine.
        processes: by how many.

    Raises:
        ConfigError: BULKEMBED_PROGRESS_S holds no number above 0.
    """
    source: Source
    if not local:
        source = CommitRecords(Dataset.open(job.output.uri), goal.before)
    elif processes > 1:
        source = WorkerProcesses(folder)
    else:
        source = EnginesHere()
    return Progress(goal, source, show_on(sys.stderr, alone=local and processes == 1))


def show_on(stream: TextIO, *, alone: bool = True) -> Show:
    """A panel on a terminal, where people look on; else lines in the log.

    Where other processes may write to the terminal as well (not `alone`), a panel would be torn.
    A log of warnings only says nothing of progress, and one of `debug` is too much for a panel.

    Raises:
        ConfigError: BULKEMBED_PROGRESS_S holds no number above 0.
    """
    if alone and takes_a_panel(stream) and not is_json() and log.level == logging.INFO:
        return Screen(stream, every_s(PANEL_EVERY_S))
    return Lines(every_s(LINE_EVERY_S), as_json=is_json())
