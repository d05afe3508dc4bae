"""What a worker of a cluster does for batch jobs: it writes their files and collects results."""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bulkembed.schemas.batch import BatchConfig
from bulkembed.schemas.errors import BulkEmbedError
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.ledger_entry import BatchJob
from bulkembed.transforms.batch.collected import ResultFacts, collect_results
from bulkembed.transforms.batch.run_stop import RunStop
from bulkembed.transforms.batch.task_outcomes import (
    Report,
    TaskOutcome,
    read_outcome,
    write_outcome,
)
from bulkembed.transforms.batch.uploaded_files import FileFacts, FileTask, upload_job_file
from bulkembed.transforms.clients.batch_service import open_batch_service
from bulkembed.transforms.clients.keys import find_key
from bulkembed.transforms.clients.remote_jobs import RemoteJob
from bulkembed.transforms.clients.retry_policy import RetryPolicy
from bulkembed.transforms.dataset import run_file, scratch
from bulkembed.transforms.dataset.batch_ledger import JobTexts
from bulkembed.transforms.dataset.dataset import Dataset

TASKS_AT_ONCE = 2
"""Tasks of a process that run together, so that one computes while the other transfers.

Engines may give each process many at a time. Each needs memory for its texts and disk space for
its file or its results.
"""

Facts = TypeVar("Facts", FileFacts, ResultFacts)

log = logging.getLogger("bulkembed")
_running = threading.BoundedSemaphore(TASKS_AT_ONCE)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class BatchWork:
    """What all workers of a run know. Can be pickled, and does not hold the key."""

    job: JobConfig
    settings: BatchConfig


@dataclasses.dataclass(frozen=True, slots=True)
class ResultTask:
    """A job that has ended, whose results a worker collects."""

    entry: BatchJob
    remote: RemoteJob

    @property
    def name(self) -> str:
        """The display name of the job."""
        return self.entry.display_name


def file_report(name: str) -> str:
    """Return the name of the report about a job file, given the display name of the job."""
    return f"{name}.uploaded"


def result_report(name: str) -> str:
    """Return the name of the report about results, given the display name of the job."""
    return f"{name}.collected"


class BatchWorker:
    """Does tasks of a run in a worker process.

    A task may be repeated, also while a lost worker still runs it: everything that is written is
    named after the job. An error goes into the report: the launcher then does the task itself.

    Args:
        work: what all workers know.

    Raises:
        ConfigError: this process finds no key, or cannot use its certificates.
    """

    def __init__(self, work: BatchWork) -> None:
        job = work.job
        self._job, self._settings = job, work.settings
        self._dataset = Dataset.open(job.output.uri)
        self._stop = RunStop(self._dataset, job.run_id)
        key, _ = find_key(job.service)
        retry = RetryPolicy(job.calls.retry_timeout_s, self._stop.is_set, self._stop.wait)
        self._service = open_batch_service(
            job.service, job.embedding, key, work.settings.bucket, retry
        )

    def close(self) -> None:
        """Close the connections."""
        self._service.close()

    def upload_file(self, task: FileTask) -> None:
        """Write and upload a job file, see `upload_job_file`, and report it."""

        def work(folder: Path) -> tuple[FileFacts, JobTexts]:
            return upload_job_file(
                self._dataset, self._service, task, self._job, self._settings, folder
            )

        self._report(file_report(task.name), FileFacts, work)

    def collect(self, task: ResultTask) -> None:
        """Collect the results of a job, see `collect_results`, and report it."""

        def work(folder: Path) -> tuple[ResultFacts, JobTexts]:
            return collect_results(
                self._dataset, self._service, task.entry, task.remote, self._job, folder
            )

        self._report(result_report(task.name), ResultFacts, work)

    def _report(
        self, name: str, kind: type[Facts], work: Callable[[Path], tuple[Facts, JobTexts]]
    ) -> None:
        """Do a task and write its report, unless that is done or the run has been stopped."""
        dataset, run_id = self._dataset, self._job.run_id
        with _running:
            before = read_outcome(dataset, run_id, name, kind)
            if (before is not None and before.facts is not None) or self._stop.is_set():
                return
            worker = f"process {os.getpid()} on {socket.gethostname()}"
            try:
                run_file.check_ownership(dataset, self._job)
                with scratch.folder() as folder:
                    outcome = TaskOutcome(Report(worker), *work(folder))
            except BulkEmbedError as error:
                log.warning("%s", error.message)
                outcome = TaskOutcome(Report(worker, error.message))
            write_outcome(dataset, run_id, name, outcome)
