"""Input files that are missing: whether their rows may be deleted, or are in other files now."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bulkembed.pipeline.logs import log
from bulkembed.pipeline.run.delete_guard import check_deletes
from bulkembed.pipeline.run.request import MissingFiles, RunRequest
from bulkembed.pipeline.run.scans import Scans
from bulkembed.pipeline.run.settle import OldFile, outdated_files
from bulkembed.pipeline.run.summary import join_names
from bulkembed.schemas.errors import ConfigError, OutputError
from bulkembed.schemas.inputs import InputFile
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.units import UnitRecord
from bulkembed.transforms.core.hashing import among
from bulkembed.transforms.core.ranges import remaining_ranges
from bulkembed.transforms.dataset import part_files
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import VECTORS
from bulkembed.transforms.dataset.partitioned_rows import PartitionedRows, partitions_for
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.dataset.row_keys import id_keys
from bulkembed.transforms.dataset.unit_rows import UnitRows
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import read_ids

_Keys = npt.NDArray[np.uint64]
_KEY = np.dtype([("key", "<u8")])


def check_missing_files(
    dataset: Dataset,
    request: RunRequest,
    job: JobConfig,
    scans: Scans,
    before: DatasetState,
    folder: Path,
) -> None:
    """Check what this run would do about input files that are missing, before anything is sent.

    With `--prune` their rows are deleted, as far as `--max-delete` allows. Else the rows are kept,
    but not if their ids are in other files now: then the dataset would have these ids twice.

    Args:
        dataset: the dataset.
        request: the run.
        job: the id column and its type.
        scans: the input.
        before: the committed units.
        folder: an existing folder on a local disk, for temporary files.

    Raises:
        TooManyDeletes: `--prune` would delete more rows than `--max-delete` allows.
        ConfigError: ids of missing files are in files that are not embedded yet.
        InputError: an input file cannot be read.
        OutputError: the disk is full.
    """
    missing, replaced = outdated_files(dataset, scans, before)
    if request.prune and missing:
        _check_pruned(dataset, request, job, scans, before, [*missing, *replaced], folder)
    elif missing and request.missing_files is MissingFiles.STOP and not request.retry_failed:
        _check_moved(dataset, job, scans, before, missing, folder)


def _check_pruned(
    dataset: Dataset,
    request: RunRequest,
    job: JobConfig,
    scans: Scans,
    before: DatasetState,
    gone: Sequence[OldFile],
    folder: Path,
) -> None:
    total = sum(map(_rows_of, before.records))
    rows = sum(_rows_of(record) for file in gone for record in file.records)
    names = join_names([file.name for file in gone], 3)
    allowed = request.max_delete.of(total)
    if rows > allowed:  # Else it does not matter how many ids are in other files now.
        remaining = _Ids(dataset, job, gone, folder, scans.rows)
        waiting = _files_to_embed(scans, before)
        others = [file for file in scans.inputs if file not in waiting]
        for files in (waiting, others):
            if remaining.rows > allowed:
                remaining.drop(files)
        rows = remaining.rows
        are = "is" if len(gone) == 1 else "are"
        count = number_of(len(gone), "input file")
        what = f"{dataset.root}: {count} {are} missing or replaced ({names})"
        check_deletes(rows, total, request.max_delete, what)
    log.info(
        "--prune: deleting up to %s of %s, which the input does not have any more: %s",
        f"{rows:,}",
        number_of(total, "row"),
        names,
    )


def _check_moved(
    dataset: Dataset,
    job: JobConfig,
    scans: Scans,
    before: DatasetState,
    missing: Sequence[OldFile],
    folder: Path,
) -> None:
    waiting = _files_to_embed(scans, before)
    if not waiting or job.columns.id_column is None:  # Made ids contain the name of the file.
        return
    ids = _Ids(dataset, job, missing, folder, scans.rows)
    rows = ids.rows
    ids.drop(waiting)
    moved = rows - ids.rows
    if not moved:
        return
    are = "is" if len(missing) == 1 else "are"
    raise ConfigError(
        f"{dataset.root}: {number_of(len(missing), 'input file')} with committed rows {are} "
        f"missing ({join_names([file.name for file in missing], 3)}), and {moved:,} of their "
        f"{number_of(rows, 'id')} are in input files that are not embedded yet "
        f"({join_names([file.name for file in waiting], 3)}). The dataset would have these ids "
        "twice. Nothing was sent. Use --prune to replace the rows of missing files, or "
        "--missing-files keep to keep them as well. If each night's export is rewritten, use "
        f"--sync, with another --output and --reuse {shlex.quote(job.output.uri)}."
    )


def _files_to_embed(scans: Scans, state: DatasetState) -> list[InputFile]:
    """Return the files that have rows without a commit record."""
    covered = state.covered()
    return [
        file
        for file in scans.inputs
        if any(rows for _, rows in remaining_ranges(file.rows, covered.get(file.key, ())))
    ]


class _Ids:
    """The ids of committed rows of some files, less those that are found elsewhere.

    Rows whose ids are unknown count, but are found nowhere: null ids, and ids of damaged parts.
    Rows whose part is missing do not count, because nothing of them is left to delete.

    The ids are on disk in partitions, so the memory does not grow with their number.

    Args:
        dataset: the dataset.
        job: the id column and its type.
        files: the files.
        folder: an existing folder on a local disk.
        input_rows: the rows of the input, among which ids may be found.

    Raises:
        OutputError: the disk is full.
    """

    def __init__(
        self,
        dataset: Dataset,
        job: JobConfig,
        files: Sequence[OldFile],
        folder: Path,
        input_rows: int,
    ) -> None:
        self._job = job
        self._folder = folder
        self._unknown = 0
        records = [record for file in files for record in file.records]
        most = max(input_rows, sum(map(_rows_of, records)))
        self._partitions = partitions_for(most, _KEY.itemsize)
        self._keys = self._partitioned()
        parts = UnitRows(dataset, ["id"])
        for record in records:
            rows = _rows_of(record)
            for name in dataset.parts_of(record).all:
                try:
                    rows_of_part = parts.read(parts.span(record, name))
                    keys = [*map(_keys, _ids_of(rows_of_part))]
                except OutputError as error:
                    log.warning("the ids of %s are unknown: it %s", name, error.reason)
                    rows -= _rows_of_part(dataset, record, name) if error.missing else 0
                    continue
                for some in keys:
                    rows -= len(some)
                    self._keys.add_columns(key=some)
            self._unknown += max(0, rows)

    @property
    def rows(self) -> int:
        """The number of rows whose ids were not found."""
        return self._unknown + len(self._keys)

    def drop(self, files: Iterable[InputFile]) -> None:
        """Remove the ids that rows of input files have.

        Raises:
            InputError: a file cannot be read.
            OutputError: the disk is full.
        """
        columns, schema = self._job.columns, self._job.row_schema
        remaining = self._partitioned()
        with self._keys as keys, self._partitioned() as found:
            for file in files:
                for ids in read_ids(open_found(file.found), file, columns, schema):
                    found.add_columns(key=_keys(ids))
            for number in range(self._partitions):
                some, others = keys.read(number), np.unique(found.read(number)["key"])
                remaining.add(some[~among(some["key"], others)])
        self._keys = remaining

    def _partitioned(self) -> PartitionedRows:
        return PartitionedRows(self._folder, _KEY, self._partitions)


def _rows_of(record: UnitRecord) -> int:
    """Return the rows of a unit that were not removed."""
    return record.unit.rows - record.removed


def _rows_of_part(dataset: Dataset, record: UnitRecord, name: str) -> int:
    if not name.startswith(f"{VECTORS}/"):
        return record.dead + record.skipped
    if not record.is_partitioned:
        return record.embedded
    record = dataset.read_record(record)
    rows_of = dict(zip(record.vector_parts, record.part_rows, strict=True))
    return rows_of[name.removeprefix(f"{VECTORS}/")]


def _keys(ids: pa.Array) -> _Keys:
    """Return 64 bits for each id that is not null: a false hit only stops the run."""
    return id_keys(ids.drop_null())[:, 0]


def _ids_of(rows: pa.Table) -> Iterator[pa.Array]:
    for block in rows.to_batches():
        yield part_files.one_per_input_row(block).column("id")
