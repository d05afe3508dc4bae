"""Removing rows of a synchronised dataset, record by record.

It may be done twice, also by two workers at once: the copies and the new record of one run are the
same files with the same content.
"""

from __future__ import annotations

import collections
import concurrent.futures
import functools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from bulkembed.schemas.errors import OutputError, OutputTaken
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.units import PartsRecord
from bulkembed.transforms.dataset import atomic_files, part_files, run_file
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import UNITS, record_name
from bulkembed.transforms.dataset.records import named_record
from bulkembed.transforms.dataset.replace import replace_rows
from bulkembed.transforms.sync.array_files import read_arrays, write_arrays

THREADS = 4
Rows = npt.NDArray[np.int64]
Removal = tuple[PartsRecord, Mapping[str, Rows]]
"""A record, and the rows to remove of each of its parts."""


def remove_all(dataset: Dataset, job: JobConfig, removals: Iterable[Removal]) -> None:
    """Replace the parts that have rows to remove by copies without them, in several threads.

    A record that is not there any more is skipped: its rows have been removed.

    Raises:
        OutputError: a part cannot be read or written.
        OutputTaken: another run has taken over the dataset.
    """
    threads = THREADS if dataset.is_on_a_store else min(THREADS, os.cpu_count() or 1)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(functools.partial(_remove, dataset, job), removals):
            pass


def _remove(dataset: Dataset, job: JobConfig, removal: Removal) -> None:
    record, rows = removal
    check = functools.partial(run_file.check_ownership, dataset, job)
    try:
        parts = dataset.parts_of(record)
        vectors = _numbered(dataset, parts.vectors, rows)
        letters = _numbered(dataset, parts.dead_letters, rows)
        replace_rows(dataset, job.stamp, record, vectors, letters, check)
    except OutputTaken:
        raise
    except OutputError:
        # Another worker may have had the same rows, and have removed them meanwhile.
        path = dataset.path(UNITS, record_name(record))
        if atomic_files.is_file(dataset.filesystem, path):
            raise


def _numbered(dataset: Dataset, parts: tuple[str, ...], rows: Mapping[str, Rows]) -> Rows:
    """Return rows of parts as numbers that count over all of these parts."""
    found, first = [np.empty(0, np.int64)], 0
    for place, name in enumerate(parts):
        if name in rows:
            found.append(first + rows[name])
        if place + 1 < len(parts):
            first += part_files.open_part(dataset, name).metadata.num_rows
    return np.concatenate(found)


def write_removals(dataset: Dataset, name: str, removals: Sequence[Removal]) -> None:
    """Write rows to remove to a file of the dataset: there may be too many for a Beam element.

    Raises:
        OutputError: the file cannot be written.
    """
    listed = [
        (record_name(record), part, rows)
        for record, parts in removals
        for part, rows in parts.items()
    ]
    records, parts, rows = zip(*listed, strict=True)
    write_arrays(
        dataset,
        name,
        records=np.array(records),
        parts=np.array(parts),
        counts=np.array([len(numbers) for numbers in rows]),
        rows=np.concatenate(rows),
    )


def read_removals(dataset: Dataset, name: str) -> Iterator[Removal]:
    """Yield the rows to remove of each record that is still there.

    Raises:
        OutputError: the file is missing or damaged.
    """
    arrays = read_arrays(dataset, name)
    removals: dict[str, dict[str, Rows]] = collections.defaultdict(dict)
    ends = np.cumsum(arrays["counts"])
    rows = np.split(arrays["rows"], ends[:-1])
    for record, part, numbers in zip(arrays["records"], arrays["parts"], rows, strict=True):
        removals[str(record)][str(part)] = numbers
    for record_file, parts in removals.items():
        unit = named_record(record_file)
        for record in [unit] if unit is not None else dataset.read_groups([record_file]):
            yield record, parts
