"""The workers of a cluster, as the launcher uses them for the files and results of batch jobs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from bulkembed.pipeline.logs import log
from bulkembed.pipeline.run.placement import cluster_options
from bulkembed.pipeline.run.request import RunRequest
from bulkembed.schemas.ledger_entry import BatchJob
from bulkembed.schemas.messages import number_of
from bulkembed.transforms.batch.batch_worker import (
    BatchWork,
    ResultTask,
    file_report,
    result_report,
)
from bulkembed.transforms.batch.collected import ResultFacts
from bulkembed.transforms.batch.run_stop import RunStop
from bulkembed.transforms.batch.task_outcomes import TaskOutcome, read_outcome
from bulkembed.transforms.batch.uploaded_files import FileFacts, FileTask
from bulkembed.transforms.clients.remote_jobs import RemoteJob
from bulkembed.transforms.dataset import scratch
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.picks_file import SUFFIX, write_picks
from bulkembed.transforms.dataset.work_lists import delete_lists

if TYPE_CHECKING:
    import apache_beam as beam

    from bulkembed.pipeline.runners.graph import Build

Facts = TypeVar("Facts", FileFacts, ResultFacts)
_DONE = {FileFacts: "its file was written", ResultFacts: "its answers were collected"}


@dataclasses.dataclass(frozen=True, slots=True)
class BatchWorkers:
    """Does tasks on the workers of a cluster; the launcher does what they leave.

    All methods raise OutputError if the dataset cannot be read or written, and ConfigError if the
    job server does not start.
    """

    work: BatchWork
    dataset: Dataset
    stop: RunStop
    run_stage: Callable[[Build], str | None]
    """Runs a pipeline on the cluster; returns why the runner has failed, or None."""

    def upload(self, tasks: Sequence[FileTask]) -> dict[str, TaskOutcome[FileFacts]]:
        """Write and upload job files; return what was done, by display name."""
        from bulkembed.transforms.batch_stages import UploadJobFiles

        log.info("workers write %s", number_of(len(tasks), "job file"))
        run_id = self.work.job.run_id
        try:
            elements = [
                dataclasses.replace(task, texts=write_picks(self.dataset, run_id, task.texts))
                for task in tasks
            ]
            reports = {task.name: file_report(task.name) for task in tasks}
            return self._done(elements, UploadJobFiles(self.work), reports, FileFacts)
        finally:
            delete_lists(self.dataset, run_id, (task.texts.name + SUFFIX for task in tasks))

    def collect(
        self, ended: Sequence[tuple[BatchJob, RemoteJob]]
    ) -> dict[str, TaskOutcome[ResultFacts]]:
        """Collect the results of jobs; return what was done, by display name."""
        if not ended:
            return {}
        from bulkembed.transforms.batch_stages import CollectResults

        log.info("workers collect the answers of %s", number_of(len(ended), "batch job"))
        tasks = [ResultTask(entry, remote) for entry, remote in ended]
        reports = {task.name: result_report(task.name) for task in tasks}
        return self._done(tasks, CollectResults(self.work), reports, ResultFacts)

    def _done(
        self,
        tasks: Sequence[FileTask] | Sequence[ResultTask],
        stage: beam.PTransform,
        reports: dict[str, str],
        kind: type[Facts],
    ) -> dict[str, TaskOutcome[Facts]]:
        """Run a stage over tasks, and return the reports of those that are done."""
        try:
            self._run(tasks, stage)
            found = {
                name: read_outcome(self.dataset, self.work.job.run_id, report, kind)
                for name, report in reports.items()
            }
        finally:
            delete_lists(self.dataset, self.work.job.run_id, reports.values())
        done = {}
        for name, outcome in found.items():
            if outcome is not None and outcome.facts is not None:
                log.debug("batch job %s: %s by %s", name, _DONE[kind], outcome.report.worker)
                done[name] = outcome
            elif outcome is not None:
                log.warning(
                    "batch job %s: %s failed (%s). This machine does its work.",
                    name, outcome.report.worker, outcome.report.problem.rstrip("."),
                )  # fmt: skip
        return done

    def _run(
        self, tasks: Sequence[FileTask] | Sequence[ResultTask], stage: beam.PTransform
    ) -> None:
        import apache_beam as beam

        def build(pipeline: beam.Pipeline) -> None:
            created = pipeline | "Tasks" >> beam.Create(list(tasks), reshuffle=False)
            _ = created | type(stage).__name__ >> stage

        problem = self.run_stage(build)
        if problem is not None and not self.stop.is_set():
            log.warning("the Beam runner failed: %s. This machine does what is left.", problem)


def run_on_cluster(request: RunRequest, build: Build) -> str | None:
    """Run a pipeline on the cluster of a request; return why the runner has failed, or None.

    Raises:
        ConfigError: the job server does not start, or the job is rejected.
    """
    from bulkembed.pipeline.runners.graph import run_stages

    options = cluster_options(request)
    assert options is not None
    with scratch.folder() as folder:
        return run_stages(build, request.embedding, options, folder)
