"""Vectors of committed parts whose texts occur again, copied to where the units find them.

A part that cannot be read costs the texts that it has, which are sent again; the run goes on.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bulkembed.schemas.units import UnitRecord
from bulkembed.transforms.core.hashing import Keys, keys
from bulkembed.transforms.dataset.dataset import VECTORS, Dataset
from bulkembed.transforms.dataset.kept_answers import SpillWriter
from bulkembed.transforms.dataset.whole_files import REPAIR
from bulkembed.transforms.inputs.filesystems import error_line

log = logging.getLogger("bulkembed")

_BLOCK_ROWS = 256


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class PartRows:
    """Rows of one part whose texts are wanted: their numbers in the part, ascending."""

    part: str
    rows: npt.NDArray[np.int64]


def find_committed(
    dataset: Dataset, records: Sequence[UnitRecord], wanted: Keys
) -> tuple[list[PartRows], Keys]:
    """The rows of committed parts that hold wanted texts, each text once.

    Args:
        dataset: the dataset; of its parts only the text hashes are read.
        records: what is committed.
        wanted: the keys of texts, ascending and distinct.

    Returns:
        The rows, and the keys that they have; a key is that of `repeats.keys`.
    """
    missing = np.ones(len(wanted), bool)
    found = []
    for part in _vector_parts(dataset, records):
        if not missing.any():
            break
        table = _read(dataset, part, ["text_hash"])
        if table is None:
            continue
        there = keys(table["text_hash"].to_pylist())
        at = np.searchsorted(wanted, there)
        at[at == len(wanted)] = 0
        hits = np.flatnonzero((wanted[at] == there) & missing[at])
        _, first = np.unique(at[hits], return_index=True)
        rows = np.sort(hits[first])
        missing[at[rows]] = False
        if len(rows):
            found.append(PartRows(part, rows.astype(np.int64)))
    return found, wanted[~missing]


def read_hashes(dataset: Dataset, found: Sequence[PartRows]) -> Iterator[bytes]:
    """The text hashes of rows of parts."""
    for rows in found:
        table = _read(dataset, rows.part, ["text_hash"])
        if table is not None:
            yield from table["text_hash"].take(pa.array(rows.rows)).to_pylist()


def copy_vectors(dataset: Dataset, found: Sequence[PartRows], to: SpillWriter) -> None:
    """Copies the vectors of rows of parts.

    Raises:
        OutputError: the disk is full.
    """
    for rows in found:
        table = _read(dataset, rows.part, ["text_hash", "truncated", "vector"])
        if table is None:
            continue
        for batch in table.take(pa.array(rows.rows)).to_batches(_BLOCK_ROWS):
            column = batch.column("vector")
            numbers = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
            vectors = numbers.reshape(len(batch), column.type.list_size)
            to.append(
                batch.column("text_hash").to_pylist(),
                vectors,
                batch.column("truncated").to_pylist(),
            )


def _vector_parts(dataset: Dataset, records: Sequence[UnitRecord]) -> Iterator[str]:
    for record in records:
        for part in dataset.parts_of(record):
            if part.startswith(f"{VECTORS}/"):
                yield part


def _read(dataset: Dataset, part: str, columns: list[str]) -> pa.Table | None:
    """The columns of a part; None where it cannot be read, which is logged."""
    path = dataset.path(part)
    try:
        return pq.read_table(
            path,
            columns=columns,
            filesystem=dataset.filesystem,
            use_threads=False,
            page_checksum_verification=True,
        )
    except (OSError, pa.ArrowException) as error:
        log.warning("%s: cannot be read: %s; %s", path, error_line(error), REPAIR)
        return None
