"""The stages that write the files of batch jobs, and collect their results, on a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import apache_beam as beam

from bulkembed.transforms.calls import metrics

if TYPE_CHECKING:
    from bulkembed.transforms.batch.batch_worker import BatchWork, BatchWorker, ResultTask
    from bulkembed.transforms.batch.uploaded_files import FileTask


class UploadJobFiles(beam.PTransform):
    """Write and upload the files of batch jobs; workers report to the launcher.

    Texts are never elements of the pipeline, only lists of rows and the names of files.

    Args:
        work: what the workers know.
    """

    def __init__(self, work: BatchWork) -> None:
        super().__init__()
        self.work = work

    def expand(self, tasks: beam.PCollection[FileTask]) -> beam.PCollection[str]:
        """Return the names of the jobs."""
        return (
            tasks
            | "SpreadFiles" >> beam.Reshuffle()
            | "UploadFile" >> beam.ParDo(UploadFileFn(self.work)).with_output_types(str)
        )


class CollectResults(beam.PTransform):
    """Download the results of batch jobs, and write their vectors into the dataset.

    Args:
        work: what the workers know.
    """

    def __init__(self, work: BatchWork) -> None:
        super().__init__()
        self.work = work

    def expand(self, tasks: beam.PCollection[ResultTask]) -> beam.PCollection[str]:
        """Return the names of the jobs."""
        return (
            tasks
            | "SpreadResults" >> beam.Reshuffle()
            | "Collect" >> beam.ParDo(CollectFn(self.work)).with_output_types(str)
        )


class _WorkerFn(beam.DoFn):
    """A DoFn with a connection to the service; `setup` reads the API key on the worker."""

    def __init__(self, work: BatchWork) -> None:
        self._work = work
        self._worker: BatchWorker | None = None

    def setup(self) -> None:
        """Open the dataset and the service."""
        from bulkembed.transforms.batch.batch_worker import BatchWorker

        self._worker = BatchWorker(self._work)

    def teardown(self) -> None:
        """Close the connections."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None


class UploadFileFn(_WorkerFn):
    """Writes and uploads job files, by `uploaded_files.upload_job_file`."""

    def process(self, task: FileTask) -> Iterator[str]:
        """Yield the name of the job when its file is at the service."""
        assert self._worker is not None
        self._worker.upload_file(task)
        metrics.counter(metrics.FILES_DONE, metrics.BATCH_NAMESPACE).inc()
        yield task.name


class CollectFn(_WorkerFn):
    """Collects results, by `collected.collect_results`."""

    def process(self, task: ResultTask) -> Iterator[str]:
        """Yield the name of the job when its vectors are in the dataset."""
        assert self._worker is not None
        self._worker.collect(task)
        metrics.counter(metrics.RESULTS_DONE, metrics.BATCH_NAMESPACE).inc()
        yield task.name
