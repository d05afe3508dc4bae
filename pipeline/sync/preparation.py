"""The start of a synchronisation: compare, check what it would do, and stage what is to be sent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from itertools import islice

import pyarrow as pa

from bulkembed.pipeline.logs import log
from bulkembed.pipeline.run.delete_guard import check_deletes
from bulkembed.pipeline.run.plan import Plan
from bulkembed.pipeline.run.request import RunRequest, UniqueIds
from bulkembed.pipeline.run.scans import Scans
from bulkembed.pipeline.run.settle import has_success_marker
from bulkembed.pipeline.run.summary import difference_line
from bulkembed.pipeline.sync.mirror import Mirror, compare
from bulkembed.pipeline.sync.on_workers import compare_on_workers, delete_results
from bulkembed.pipeline.sync.spool import Spool
from bulkembed.pipeline.sync.staged_work import delete_other_shards, make_work
from bulkembed.pipeline.sync.sync_file import (
    digest_of_files,
    digest_of_records,
    goal_of,
    read_goal,
    synced_rows,
    write_goal,
)
from bulkembed.schemas.errors import ConfigError, InputError, TooManyDeletes
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.messages import number_of
from bulkembed.transforms.core.row_difference import Places, RowDifference, RowTally
from bulkembed.transforms.dataset import scratch
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import read_batches
from bulkembed.transforms.inputs.stored_bytes import has_changed
from bulkembed.transforms.sync.compared_rows import Comparison
from bulkembed.transforms.sync.row_reading import by_file

SHOWN_IDS = 3


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Sync:
    """A synchronisation that has passed all checks, with its rows to send staged."""

    mirror: Mirror
    plan: Plan
    shards: tuple[str, ...]

    @property
    def removes_rows(self) -> bool:
        """Whether the dataset has rows that are to be removed."""
        return len(self.mirror.found.remove) > 0


def prepare(
    dataset: Dataset,
    job: JobConfig,
    request: RunRequest,
    scans: Scans,
    before: DatasetState,
    *,
    staged_in: str | None = None,
    on_refusal: Callable[[ConfigError | TooManyDeletes], None] | None = None,
) -> Sync:
    """Compare the input with the dataset, check what a run would do, and stage the rows to send.

    Only staged shards are written. On a cluster that happens before the checks; if one of them
    fails, the shards are deleted.

    Args:
        dataset: the dataset.
        job: how texts are sent, and the columns.
        request: the run.
        scans: the input.
        before: the committed units.
        staged_in: another folder for the shards; None for the dataset.
        on_refusal: gets the error of a check, which is not raised then.

    Raises:
        ConfigError: an id is repeated, and `--unique-ids last` is not set.
        TooManyDeletes: more ids are gone than `--max-delete` allows.
        InputError: a file cannot be read, or has changed while it was read.
        OutputError: a committed part cannot be read, a shard cannot be written, or the disk is
            full.
    """

    def check(mirror: Mirror, *, is_read: bool = True) -> None:
        if is_read:
            _check_files(scans)
        try:
            _check(job, request, mirror)
        except (ConfigError, TooManyDeletes) as error:
            if on_refusal is None:
                raise
            on_refusal(error)

    unchanged = _unchanged(dataset, request, scans, before)
    if unchanged is not None:
        check(unchanged, is_read=False)
        return Sync(unchanged, Plan((), unchanged.found.tally.unchanged, 0), ())
    compared = Comparison(
        job.embedding, job.columns, job.row_schema, job.fetch, job.media_root,
        by_bytes=_reads_media(request),
    )  # fmt: skip
    if staged_in is None:
        found = compare_on_workers(dataset, job, request, compared, scans.inputs, before, check)
        if found is not None:
            mirror, work = found
            return Sync(mirror, work.plan, work.shards)
    committed = sum(record.unit.rows for record in before.records)
    with scratch.folder() as folder, Spool(folder, committed) as spool:
        mirror = compare(
            dataset,
            compared,
            scans.inputs,
            before.parts_records(),
            folder,
            spool=spool,
            retry_failed=request.retry_failed,
        )
        check(mirror)
        uri = staged_in or request.output.uri
        work = make_work(Dataset.open(uri), uri, job, mirror, spool, before, request.unit_rows)
    return Sync(mirror, work.plan, work.shards)


def begin(dataset: Dataset, job: JobConfig, sync: Sync) -> None:
    """Note what a run sets out to do that has taken the dataset; delete what dead runs left."""
    write_goal(dataset, goal_of(job, sync.mirror, sync.plan))
    delete_other_shards(dataset, sync.shards)
    delete_results(dataset)


def _check_files(scans: Scans) -> None:
    """Raise InputError if a file has changed while it was read."""
    for file in scans.inputs:
        if has_changed(file, scans.stamps.get(file.found.path)):
            raise InputError(
                f"{file.name} has changed while it was read. Nothing was sent. Rerun the command "
                "when nothing writes to the file.",
                path=file.found.path,
            )


def _check(job: JobConfig, request: RunRequest, mirror: Mirror) -> None:
    """Check what a run would do.

    Raises:
        ConfigError, TooManyDeletes: as `prepare`.
    """
    tally = mirror.found.tally
    if tally.repeated and request.unique_ids is UniqueIds.ERROR:
        raise ConfigError(_repeated_ids(job, mirror))
    log.info("sync: %s", difference_line(tally, done=False))
    check_deletes(
        tally.gone,
        tally.committed_ids,
        request.max_delete,
        f"{request.output.uri}: the input lacks {number_of(tally.gone, 'id')} of the dataset",
    )


def _unchanged(
    dataset: Dataset, request: RunRequest, scans: Scans, before: DatasetState
) -> Mirror | None:
    """Return an empty difference if input and dataset are those of the last complete run."""
    if request.retry_failed or not has_success_marker(dataset):
        return None
    goal = read_goal(dataset)
    if goal is not None and (goal.tally.names_files or _reads_media(request)):
        return None  # The files of media may have changed.
    if goal is None or goal.records_digest != digest_of_records(before):
        return None
    files = tuple(scans.inputs)
    if goal.files_digest != digest_of_files(files):
        return None
    if goal.tally.repeated and request.unique_ids is UniqueIds.ERROR:
        return None
    rows = synced_rows(dataset, before.records, complete=True)
    tally = RowTally(
        input_rows=goal.tally.input_rows,
        repeated=goal.tally.repeated,
        embedded=rows.embedded,
        dead=rows.dead,
        skipped=rows.skipped,
    )
    found = dataclasses.replace(RowDifference.joined([]), tally=tally)
    return Mirror(files, tuple(before.parts_records()), (), found)


def _reads_media(request: RunRequest) -> bool:
    """Return whether files of media are compared by their bytes."""
    return request.input.rescan and request.embedding.media is not None


def _repeated_ids(job: JobConfig, mirror: Mirror) -> str:
    count = mirror.found.tally.repeated
    shown = "; ".join(islice(_examples(job, mirror), SHOWN_IDS))
    more = "" if count <= SHOWN_IDS else f"; and {count - SHOWN_IDS:,} more"
    return (
        f"--sync needs unique ids, but the input has {number_of(count, 'row')} with an id that a "
        f"later row has: {shown}{more}. Nothing was sent. Make the ids unique, or take the last "
        "row of each id with --unique-ids last."
    )


def _examples(job: JobConfig, mirror: Mirror) -> Iterator[str]:
    found = mirror.found
    for at in range(min(SHOWN_IDS, len(found.repeated))):
        name, row, value = _id_at(job, mirror, found.repeated[at : at + 1])
        other_name, other_row, _ = _id_at(job, mirror, found.repeated_by[at : at + 1])
        yield f"{value!r} in row {row} of {name} and in row {other_row} of {other_name}"


def _id_at(job: JobConfig, mirror: Mirror, place: Places) -> tuple[str, int, object]:
    """Return the file, the row and the id at one place of the input."""
    [(number, rows)] = by_file(place)
    file, row = mirror.files[number], int(rows[0])
    schema = pa.schema([job.row_schema.field("id")])
    (batch,) = read_batches(open_found(file.found), file, job.columns, schema, [(row, 1)])
    return file.name, row, batch.ids[0].as_py()
