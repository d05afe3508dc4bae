"""Remove the rows that a synchronised dataset should no longer have."""

from __future__ import annotations

import concurrent.futures
import functools
import os
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from bulkembed.pipeline.logs import log
from bulkembed.pipeline.sync.mirror import Mirror
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.units import PartsRecord, UnitRecord
from bulkembed.transforms.dataset import part_files, run_file
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.records import RecordParts
from bulkembed.transforms.dataset.replace import replace_rows

THREADS = 4
Rows = npt.NDArray[np.int64]


def remove_rows(dataset: Dataset, job: JobConfig, mirror: Mirror) -> None:
    """Replace the parts that have rows to remove by copies without them, unit by unit.

    Call this once the rows to send are committed.  After a kill, the next run finds the rows that
    are left.

    Raises:
        OutputError: a part cannot be read or written.
        OutputTaken: another run has taken over the dataset.
    """
    places = mirror.found.remove
    if not len(places):
        return
    log.info("sync: removing %s from the dataset", number_of(len(places), "row"))
    threads = THREADS if dataset.is_on_a_store else min(THREADS, os.cpu_count() or 1)
    check = functools.partial(run_file.check_ownership, dataset, job)

    def remove(found: tuple[PartsRecord, dict[str, Rows]]) -> None:
        record, rows = found
        if isinstance(record, UnitRecord):
            record = dataset.read_record(record)
        parts = RecordParts.of(record)
        vectors = _numbered(dataset, parts.vectors, rows)
        letters = _numbered(dataset, parts.dead_letters, rows)
        replace_rows(dataset, job.stamp, record, vectors, letters, check)

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(remove, mirror.to_remove()):
            pass


def _numbered(dataset: Dataset, parts: tuple[str, ...], rows: Mapping[str, Rows]) -> Rows:
    """Return rows of parts as numbers that count over all of these parts."""
    found, first = [np.empty(0, np.int64)], 0
    for place, name in enumerate(parts):
        if name in rows:
            found.append(first + rows[name])
        if place + 1 < len(parts):
            first += part_files.open_part(dataset, name).metadata.num_rows
    return np.concatenate(found)
