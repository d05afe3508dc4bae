"""What is done to the dataset once the pipeline has ended: clean up, count, close."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.planning import Scans
from pipeline.summary import RowCounts
from schemas.job import JobConfig
from schemas.tables import vectors_schema
from schemas.units import UnitRecord
from transforms.core import ranges
from transforms.engine.outcome import part_metadata
from transforms.storage import whole_files
from transforms.storage.dataset import SUCCESS, VECTORS, Dataset, State
from transforms.storage.part_files import encode_part

EMPTY_PART = "empty.parquet"
"""Stands in `vectors/` where there is not one vector, so that readers find the schema."""
MOST_IDS = 50_000_000
"""Ids beyond this number are not compared: each takes 8 bytes of memory."""


@dataclasses.dataclass(frozen=True, slots=True)
class OldFile:
    """A file with committed rows that is not in the input as it was: its name and records."""

    name: str
    records: tuple[UnitRecord, ...]


def dataset_rows(scans: Scans, state: State) -> RowCounts:
    """Where the rows of the input are, by the commit records of files that are still there."""
    current = {file.key for file in scans.inputs}
    records = [record for record in state.records if record.unit.file_key in current]
    return RowCounts(
        rows_in=scans.rows,
        embedded=sum(record.embedded for record in records),
        dead=sum(record.dead for record in records),
        skipped=sum(record.skipped for record in records),
        left=scans.rows - sum(record.unit.rows for record in records),
    )


def old_files(dataset: Dataset, scans: Scans, state: State) -> list[OldFile]:
    """The files behind records whose content is not in the input any more."""
    current = {file.key for file in scans.inputs}
    old = [record for record in state.records if record.unit.file_key not in current]
    files = []
    for _, group in itertools.groupby(old, key=lambda record: record.unit.file_key):
        records = tuple(group)
        files.append(OldFile(dataset.whole_record(records[0]).source_file, records))
    return files


def remove_replaced(dataset: Dataset, scans: Scans, state: State) -> State:
    """Removes the rows of files whose content changed, once the new rows are all committed."""
    covered = state.covered()
    done = {
        file.name
        for file in scans.inputs
        if not ranges.subtract(file.rows, covered.get(file.key, ()))
    }
    replaced = {
        record
        for file in old_files(dataset, scans, state)
        if file.name in done
        for record in file.records
    }
    dataset.forget(sorted(replaced, key=lambda record: record.unit))
    return State(tuple(record for record in state.records if record not in replaced))


def vanished(dataset: Dataset, scans: Scans, state: State) -> tuple[str, ...]:
    """Names of files that are gone from the input; their rows stay."""
    names = {file.name for file in scans.inputs}
    return tuple(sorted({f.name for f in old_files(dataset, scans, state) if f.name not in names}))


def duplicate_ids(dataset: Dataset, state: State) -> int:
    """How many rows have the id of another row before them, over vectors and dead letters."""
    if sum(record.unit.rows for record in state.records) > MOST_IDS:
        return 0
    hashes = [
        _hash_ids(dataset, part) for record in state.records for part in dataset.parts_of(record)
    ]
    if not hashes:
        return 0
    everything = np.concatenate(hashes)
    return len(everything) - len(np.unique(everything))


def _hash_ids(dataset: Dataset, part: str) -> npt.NDArray[np.int64]:
    table = pq.read_table(
        dataset.path(part), columns=["id"], filesystem=dataset.filesystem, use_threads=False
    )
    ids = table.column("id").drop_null()
    if pa.types.is_integer(ids.type):
        # Not `hash`, which gives -1 and -2 the same number.
        numbers: npt.NDArray[np.int64] = ids.to_numpy().astype(np.int64)
        return numbers
    return np.fromiter(map(hash, ids.to_pylist()), np.int64, len(ids))


def close(dataset: Dataset, job: JobConfig, state: State, *, complete: bool) -> None:
    """Leaves the dataset as readers expect it: a schema even without rows; `_SUCCESS` last."""
    embedded = any(record.embedded for record in state.records)
    names = dataset.names(VECTORS)
    if embedded and EMPTY_PART in names:
        dataset.delete([f"{VECTORS}/{EMPTY_PART}"])
    dim = job.embedding.out_dim
    if complete and not embedded and dim is not None and EMPTY_PART not in names:
        schema = vectors_schema(
            job.row_schema, dim, job.output.vector_type, part_metadata(job, dim)
        )
        dataset.write(f"{VECTORS}/{EMPTY_PART}", encode_part(schema.empty_table()))
    if complete:
        dataset.write(SUCCESS, b"")


def is_settled(dataset: Dataset) -> bool:
    """Whether `_SUCCESS` stands."""
    return whole_files.read_bytes(dataset.filesystem, dataset.path(SUCCESS)) is not None
