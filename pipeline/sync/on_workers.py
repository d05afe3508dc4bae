"""A synchronisation on a cluster: its workers compare the rows, stage them, and remove old ones.

If the runner fails, the launcher does the same work with the same functions, or what is left of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from bulkembed.pipeline.logs import log
from bulkembed.pipeline.run import scratch
from bulkembed.pipeline.run.placement import cluster_options
from bulkembed.pipeline.run.request import RunRequest
from bulkembed.pipeline.sync.mirror import Mirror, rows_of
from bulkembed.pipeline.sync.staged_work import SyncWork, work_of_slices
from bulkembed.pipeline.sync.worker_comparison import WorkerComparison, gathered
from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.inputs import InputFile
from bulkembed.schemas.job import JobConfig
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import COMPARED
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.sync.compared_rows import Comparison
from bulkembed.transforms.sync.removed_rows import Removal, write_removals

if TYPE_CHECKING:
    import apache_beam as beam

REMOVAL_ROWS = 50_000
"""Input rows of the records from which a worker removes rows."""


def compare_on_workers(
    dataset: Dataset,
    job: JobConfig,
    request: RunRequest,
    compared: Comparison,
    files: Sequence[InputFile],
    state: DatasetState,
) -> tuple[Mirror, SyncWork] | None:
    """Compare the input with the dataset, and stage the rows to send, on the workers of a cluster.

    Nothing is written but shards and files in `_run/compared/`, which are deleted again.

    Returns:
        The difference, and the work.  None if the run has no cluster, or the runner has failed.

    Raises:
        OutputError: a commit record cannot be read.
    """
    if cluster_options(request) is None:
        return None
    comparison = WorkerComparison(
        dataset, job, compared, files, state, retry_failed=request.retry_failed
    )
    try:
        if not _run(request, "compare the rows", comparison.build):
            return None
        mirror = comparison.mirror()
        staged = comparison.staged(mirror)
    except OutputError as error:
        log.warning("%s. This machine compares the rows.", error.message.rstrip("."))
        return None
    finally:
        _delete_files(dataset)
    return mirror, work_of_slices(job, mirror, staged, state, request.unit_rows)


def remove_on_workers(
    dataset: Dataset, job: JobConfig, request: RunRequest, mirror: Mirror
) -> bool:
    """Remove rows on the workers of a cluster.

    Returns:
        Whether the workers have removed some or all of them; False if the run has no cluster.

    Raises:
        OutputError: a list of rows cannot be written.
    """
    if cluster_options(request) is None:
        return False
    try:
        names = []
        for number, removals in enumerate(_removal_slices(mirror.to_remove())):
            names.append(f"{COMPARED}/{job.run_id}-removed-{number:06}.npz")
            write_removals(dataset, names[-1], removals)

        def build(pipeline: beam.Pipeline) -> None:
            import apache_beam as beam

            from bulkembed.transforms.remove_rows import RemoveRows

            created = pipeline | "Records" >> beam.Create(names, reshuffle=False)
            _ = created | "RemoveRows" >> RemoveRows(job)

        _run(request, "remove rows", build)
        return True
    finally:
        _delete_files(dataset)


def _removal_slices(removals: Iterable[Removal]) -> Iterator[list[Removal]]:
    return gathered(removals, lambda removal: rows_of(removal[0]), REMOVAL_ROWS)


def _delete_files(dataset: Dataset) -> None:
    """Delete what workers have found out, also for runs that are dead."""
    dataset.delete(f"{COMPARED}/{name}" for name in dataset.names(COMPARED))


def _run(request: RunRequest, what: str, build: Callable[[beam.Pipeline], None]) -> bool:
    """Run a pipeline on the cluster; return whether it has succeeded."""
    from bulkembed.pipeline.runners.graph import run_stages

    options = cluster_options(request)
    if options is None:
        return False
    log.info("sync: the workers %s", what)
    with scratch.folder() as folder:
        problem = run_stages(build, options, folder)
    if problem is not None:
        log.warning("the Beam runner failed: %s. This machine does what is left.", problem)
    return problem is None
