"""A synchronisation on a cluster: its workers compare the rows, stage them, and remove old ones.

If the runner fails, the launcher does the same work with the same functions, or what is left of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from bulkembed.pipeline.logs import log
from bulkembed.pipeline.run.placement import cluster_options
from bulkembed.pipeline.run.request import RunRequest, SyncOn
from bulkembed.pipeline.sync.mirror import Mirror, rows_of
from bulkembed.pipeline.sync.staged_work import SyncWork, delete_other_shards, work_of_slices
from bulkembed.pipeline.sync.worker_comparison import WorkerComparison, gathered
from bulkembed.schemas.errors import BulkEmbedError, OutputError
from bulkembed.schemas.inputs import InputFile
from bulkembed.schemas.job import JobConfig
from bulkembed.transforms.dataset import scratch
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import COMPARED
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.sync.compared_rows import Comparison
from bulkembed.transforms.sync.removed_rows import Removal, write_removals
from bulkembed.transforms.sync.shards import staged_names

if TYPE_CHECKING:
    import apache_beam as beam

MANY_ROWS = 5_000_000
"""With as many rows to compare, workers are faster although their job has to start first."""
MANY_BYTES = 4 << 30
"""With as many bytes of vectors to write again, workers are faster."""
_UNKNOWN_DIM = 1024
REMOVAL_ROWS = 50_000
"""Input rows of the records from which a worker removes rows."""


def compare_on_workers(
    dataset: Dataset,
    job: JobConfig,
    request: RunRequest,
    compared: Comparison,
    files: Sequence[InputFile],
    state: DatasetState,
    check: Callable[[Mirror], None],
) -> tuple[Mirror, SyncWork] | None:
    """Compare the input with the dataset, and stage the rows to send, on the workers of a cluster.

    Nothing is written but shards, and files in `_run/compared/`, which are deleted again.

    Args:
        dataset: the dataset.
        job: the run.
        request: its options.
        compared: what is compared.
        files: the input, in order.
        state: the committed units.
        check: raises if the run must not do this; then the shards are deleted.

    Returns:
        The difference, and the work. None if the launcher is to do it: there is no cluster or
        too little to do, or the runner has failed.

    Raises:
        OutputError: a commit record cannot be read.
        BulkEmbedError: see `check`.
    """
    rows = sum(file.rows for file in files) + sum(record.unit.rows for record in state.records)
    if not _uses_workers(request, is_large=rows >= MANY_ROWS):
        return None
    comparison = WorkerComparison(
        dataset, job, compared, files, state, retry_failed=request.retry_failed
    )
    shards = staged_names(dataset)
    try:
        if not _run(request, "compare the rows", comparison.build):
            return None
        mirror = comparison.mirror()
        staged = comparison.staged(mirror)
    except OutputError as error:
        log.warning("%s. This machine compares the rows.", error.message.rstrip("."))
        return None
    finally:
        delete_results(dataset)
    try:
        check(mirror)
    except BulkEmbedError:
        delete_other_shards(dataset, shards)
        raise
    return mirror, work_of_slices(job, mirror, staged, state, request.unit_rows)


def remove_on_workers(
    dataset: Dataset, job: JobConfig, request: RunRequest, mirror: Mirror
) -> bool:
    """Remove rows on the workers of a cluster.

    Returns:
        Whether workers were started, and have removed some or all of them.

    Raises:
        OutputError: a list of rows cannot be written.
    """
    rows = sum(rows_of(record) for record, _ in mirror.to_remove())
    size = 4 * rows * (job.embedding.out_dim or _UNKNOWN_DIM)
    if not _uses_workers(request, is_large=size >= MANY_BYTES):
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
        delete_results(dataset)


def _uses_workers(request: RunRequest, *, is_large: bool) -> bool:
    if request.sync_on is SyncOn.LAUNCHER or cluster_options(request) is None:
        return False
    return is_large or request.sync_on is SyncOn.WORKERS


def _removal_slices(removals: Iterable[Removal]) -> Iterator[list[Removal]]:
    return gathered(removals, lambda removal: rows_of(removal[0]), REMOVAL_ROWS)


def delete_results(dataset: Dataset) -> None:
    """Delete what workers have found, also for runs that are dead."""
    dataset.delete(f"{COMPARED}/{name}" for name in dataset.names(COMPARED))


def _run(request: RunRequest, what: str, build: Callable[[beam.Pipeline], None]) -> bool:
    """Run a pipeline on the cluster; return whether it has succeeded."""
    from bulkembed.pipeline.runners.graph import run_stages

    options = cluster_options(request)
    if options is None:
        return False
    log.info("sync: the workers %s", what)
    with scratch.folder() as folder:
        problem = run_stages(build, request.embedding, options, folder)
    if problem is not None:
        log.warning("the Beam runner failed: %s. This machine does what is left.", problem)
    return problem is None
