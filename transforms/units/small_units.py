"""Small units: those of a slice that are embedded together and committed as one group.

A dataset of thousands of small files would otherwise have as many parts and records.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from bulkembed.schemas.inputs import InputFile
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.units import FileUnits, Unit
from bulkembed.transforms.core.tokens import TokenEstimator
from bulkembed.transforms.dataset import partitions
from bulkembed.transforms.dataset.groups import group_key
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import read_batches
from bulkembed.transforms.inputs.rows import RowBatch
from bulkembed.transforms.units.prepare import PreparedUnit, SmallUnit, prepare

MIN_FILES = 16
"""A slice with fewer small files has so few parts that each of its units keeps its own."""
MAX_GROUP_BYTES = 16 << 20
"""A group ends with the unit that reaches so many bytes: its rows are in memory together."""
READ_THREADS = 8
"""Files of a store that are read at once; each takes several requests."""

FileRows = list[tuple[Unit, RowBatch]]
"""The units of a file, each with its rows."""


def grouped_files(files: Sequence[FileUnits], job: JobConfig) -> Iterator[Sequence[FileUnits]]:
    """Yield the files of a slice in its order, those that form a group together.

    A small file has at most half as many rows to embed as a unit. Consecutive ones form a group of
    at most `unit_rows` rows, if the slice has enough of them. Retried units, whose old vectors
    stay where they are, and rows with media, whose size is not known, form no groups.

    The same slice always has the same groups.
    """
    small = [_is_small(file, job) for file in files]
    if sum(small) < MIN_FILES:
        small = [False] * len(files)
    group: list[FileUnits] = []
    rows = 0
    for file, is_small in zip(files, small, strict=True):
        if group and not (is_small and rows + file.rows <= job.unit_rows):
            yield group
            group, rows = [], 0
        if is_small:
            group.append(file)
            rows += file.rows
        else:
            yield [file]
    if group:
        yield group


def _is_small(file: FileUnits, job: JobConfig) -> bool:
    has_text_rows = not file.retry_of and job.embedding.media is None
    return has_text_rows and 2 * file.rows <= job.unit_rows


def prepared_groups(
    job: JobConfig,
    estimator: TokenEstimator,
    files: Sequence[FileUnits],
    read: Callable[[FileUnits], FileRows],
    max_texts: int,
) -> Iterator[PreparedUnit]:
    """Yield the groups of small files: usually one, with the rows of all of them.

    A group with many bytes or partitions is divided between units.

    Args:
        job: the run.
        estimator: estimates tokens.
        files: what is to be embedded of each file.
        read: reads the rows of a file, see `read_units`.
        max_texts: a group whose texts are cut into more passages is split between rows.

    Raises:
        InputError: a file cannot be read or has changed, or a blank text stops the run.
    """
    for group in _limited(_read_all(files, read), job.output.partition_by):
        members = [SmallUnit(one.unit, one.file.name) for one in group]
        batch = RowBatch.joined([one.batch for one in group], [one.file.name for one in group])
        while batch.rows:
            unit = Unit(group_key((one.unit for one in members), job.run_number), 0, batch.rows)
            prepared = prepare(batch, unit, "", job, estimator, max_texts=max_texts)
            done = prepared.unit.rows
            yield dataclasses.replace(prepared, members=tuple(_cut(members, 0, done)))
            batch, members = batch.part(done, batch.rows), list(_cut(members, done, batch.rows))


def read_units(job: JobConfig, file: FileUnits) -> Iterator[tuple[Unit, RowBatch]]:
    """Yield the units of a file, each with its rows.

    Raises:
        InputError: the file cannot be read or has changed.
    """
    ranges = [(unit.first_row, unit.rows) for unit in file.units]
    found = open_found(file.file.found)
    batches = read_batches(found, file.file, job.columns, job.row_schema, ranges)
    yield from zip(file.units, batches, strict=True)


class _UnitRows(NamedTuple):
    file: InputFile
    unit: Unit
    batch: RowBatch


def _read_all(
    files: Sequence[FileUnits], read: Callable[[FileUnits], FileRows]
) -> Iterator[_UnitRows]:
    """Yield the units of the files in order; files of a store are read several at a time."""
    with contextlib.ExitStack() as stack:
        found: Iterable[FileRows] = map(read, files)
        if not all(file.file.found.is_local for file in files):
            pool = concurrent.futures.ThreadPoolExecutor(READ_THREADS, "bulkembed-small")
            stack.callback(pool.shutdown, cancel_futures=True)
            found = _read_ahead(pool, files, read)
        for file, rows in zip(files, found, strict=True):
            yield from (_UnitRows(file.file, *one) for one in rows)


def _read_ahead(
    pool: concurrent.futures.ThreadPoolExecutor,
    files: Sequence[FileUnits],
    read: Callable[[FileUnits], FileRows],
) -> Iterator[FileRows]:
    """Yield the rows of each file, in order, while some of the next ones are read."""
    ahead: collections.deque[concurrent.futures.Future[FileRows]] = collections.deque()
    for file in files:
        ahead.append(pool.submit(read, file))
        if len(ahead) > READ_THREADS:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


def _limited(rows: Iterable[_UnitRows], column: str | None) -> Iterator[list[_UnitRows]]:
    """Yield the units in groups that have few enough bytes and partitions; usually there is one."""
    group: list[_UnitRows] = []
    folders: set[str] = set()
    size = 0
    for one in rows:
        own = set() if column is None else partitions.folders_of(column, one.batch.kept[column])
        is_full = size >= MAX_GROUP_BYTES or len(folders | own) > partitions.MAX_OF_UNIT
        if group and is_full:
            yield group
            group, folders, size = [], set(), 0
        group.append(one)
        folders |= own
        size += one.batch.kept.nbytes + sum(len(text or "") for text in one.batch.texts)
    if group:
        yield group


def _cut(members: Sequence[SmallUnit], start: int, end: int) -> Iterator[SmallUnit]:
    """Yield the units of some rows of a group, the first and the last cut to these rows."""
    first = 0
    for member in members:
        unit = member.unit
        skipped, rows = max(0, start - first), min(unit.rows, end - first)
        if rows > skipped:
            own = unit.part(unit.first_row + skipped, rows - skipped)
            yield SmallUnit(own, member.source_file)
        first += unit.rows
