"""What workers report to the launcher about batch jobs, as files in `_run/gather/`.

The launcher enters it in the ledger, which it alone writes.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Generic, TypeVar

import numpy as np
import orjson

from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.serialization import from_plain, to_plain
from bulkembed.transforms.dataset.batch_ledger import JOB_TEXT, NO_TEXTS, JobTexts
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.work_lists import read_list, write_list

_LENGTH = struct.Struct("<I")
Facts = TypeVar("Facts")


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """Who did a task, or could not."""

    worker: str
    """The process and its host."""
    problem: str = ""
    """Why the worker could not do it; empty if it did."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class TaskOutcome(Generic[Facts]):
    """What a worker reports about a task."""

    report: Report
    facts: Facts | None = None
    """What it did; None if there was a problem."""
    texts: JobTexts = dataclasses.field(default_factory=lambda: NO_TEXTS)
    """The texts that it is about."""


def write_outcome(dataset: Dataset, run_id: str, name: str, outcome: TaskOutcome[Facts]) -> None:
    """Write what a worker reports about a task.

    Args:
        dataset: the dataset.
        run_id: the run.
        name: of the task.
        outcome: the report.

    Raises:
        OutputError: the file cannot be written.
    """
    head = orjson.dumps([to_plain(outcome.report), outcome.facts and to_plain(outcome.facts)])
    content = _LENGTH.pack(len(head)) + head + outcome.texts.tobytes()
    write_list(dataset, run_id, name, content)


def read_outcome(
    dataset: Dataset, run_id: str, name: str, kind: type[Facts]
) -> TaskOutcome[Facts] | None:
    """Return what a worker reported about a task; None if no worker has done it.

    Args:
        dataset: the dataset.
        run_id: the run.
        name: of the task.
        kind: of the facts.

    Raises:
        OutputError: the file cannot be read.
    """
    try:
        content = read_list(dataset, run_id, name)
    except OutputError as error:
        if error.missing or error.damaged:
            return None
        raise
    (length,) = _LENGTH.unpack_from(content)
    end = _LENGTH.size + length
    report, facts = orjson.loads(content[_LENGTH.size : end])
    return TaskOutcome(
        from_plain(report, Report),
        None if facts is None else from_plain(facts, kind),
        np.frombuffer(content[end:], JOB_TEXT),
    )
