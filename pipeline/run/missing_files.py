"""Input files that are missing: whether their rows may be deleted, or are in other files now."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterable, Iterator, Sequence

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
from bulkembed.transforms.core.ranges import remaining_ranges
from bulkembed.transforms.dataset import part_files
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import VECTORS
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.dataset.row_keys import id_keys
from bulkembed.transforms.dataset.unit_rows import UnitRows
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import read_ids

_Keys = npt.NDArray[np.uint64]


def check_missing_files(
    dataset: Dataset, request: RunRequest, job: JobConfig, scans: Scans, before: DatasetState
) -> None:
    """Check what this run would do about input files that are missing, before anything is sent.

    With `--prune` their rows are deleted, as far as `--max-delete` allows.  Else the rows are kept,
    but not if their ids are in other files now: then the dataset would have these ids twice.

    Raises:
        TooManyDeletes: `--prune` would delete more rows than `--max-delete` allows.
        ConfigError: ids of missing files are in files that are not embedded yet.
        InputError: an input file cannot be read.
    """
    missing, replaced = outdated_files(dataset, scans, before)
    if request.prune and missing:
        _check_pruned(dataset, request, job, scans, before, [*missing, *replaced])
    elif missing and request.missing_files is MissingFiles.STOP and not request.retry_failed:
        _check_moved(dataset, job, scans, before, missing)


def _check_pruned(
    dataset: Dataset,
    request: RunRequest,
    job: JobConfig,
    scans: Scans,
    before: DatasetState,
    gone: Sequence[OldFile],
) -> None:
    total = sum(map(_rows_of, before.records))
    rows = sum(_rows_of(record) for file in gone for record in file.records)
    names = join_names([file.name for file in gone], 3)
    allowed = request.max_delete.of(total)
    if rows > allowed:  # Else it does not matter how many ids are in other files now.
        remaining = _Ids(dataset, job, gone)
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
) -> None:
    waiting = _files_to_embed(scans, before)
    if not waiting or job.columns.id_column is None:  # Made ids contain the name of the file.
        return
    ids = _Ids(dataset, job, missing)
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

    Args:
        dataset: the dataset.
        job: the id column and its type.
        files: the files.
    """

    def __init__(self, dataset: Dataset, job: JobConfig, files: Sequence[OldFile]) -> None:
        self._job = job
        self._unknown = 0
        self._keys = np.empty(0, np.uint64)
        found = [self._keys]
        parts = UnitRows(dataset, ["id"])
        for record in itertools.chain.from_iterable(file.records for file in files):
            rows = _rows_of(record)
            for name in dataset.parts_of(record).all:
                try:
                    rows_of_part = parts.read(parts.span(record, name))
                    keys = [*map(_keys, _ids_of(rows_of_part))]
                except OutputError as error:
                    log.warning("the ids of %s are unknown: it %s", name, error.reason)
                    rows -= _rows_of_part(dataset, record, name) if error.missing else 0
                    continue
                rows -= sum(map(len, keys))
                found += keys
            self._unknown += max(0, rows)
        self._keys = np.concatenate(found)
        self._keys.sort()

    @property
    def rows(self) -> int:
        """The number of rows whose ids were not found."""
        return self._unknown + len(self._keys)

    def drop(self, files: Iterable[InputFile]) -> None:
        """Remove the ids that rows of input files have."""
        columns, schema = self._job.columns, self._job.row_schema
        found = np.zeros(len(self._keys) + 1, np.int64)
        for file in files:
            for ids in read_ids(open_found(file.found), file, columns, schema):
                wanted = np.unique(_keys(ids))
                np.add.at(found, np.searchsorted(self._keys, wanted, "left"), 1)
                np.add.at(found, np.searchsorted(self._keys, wanted, "right"), -1)
        self._keys = self._keys[np.cumsum(found)[:-1] == 0]


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
