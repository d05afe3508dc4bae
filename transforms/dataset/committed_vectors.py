"""The vectors of committed parts, found by the index of their text hashes and read in place.

A part that cannot be read has no vectors: its texts are sent again, and the run continues.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.units import UnitRecord
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.hash_index import HashIndex
from bulkembed.transforms.dataset.known_places import KnownPlaces, PlaceSource
from bulkembed.transforms.dataset.known_vectors import VectorBlock
from bulkembed.transforms.dataset.layout import VECTORS
from bulkembed.transforms.dataset.part_files import matrix_of, open_part, read_rows

log = logging.getLogger("bulkembed")

_BLOCK_ROWS = 256
_COLUMNS = ("text_hash", "truncated", "vector")


def committed_index(
    dataset: Dataset,
    records: Iterable[UnitRecord],
    digest: str,
    scratch: Path,
    *,
    keep: bool = False,
    trusted: bool = True,
) -> HashIndex:
    """Return the index of the parts of some units of a dataset.

    Args:
        dataset: the dataset.
        records: its commit records; the parts of those without vectors are not read.
        digest: the embedding digest.
        scratch: as for `HashIndex`.
        keep: as for `HashIndex`.
        trusted: whether the records are right; if not, only parts with the digest count.

    Raises:
        OutputError: the dataset cannot be listed, or a disk is full.
    """
    found = dataset.part_sizes(VECTORS)
    named = dataset.parts_of_each([record for record in records if record.embedded])
    sizes = {part: found[part] for one in named for part in one.vectors if part in found}
    return HashIndex(dataset, sizes, digest, scratch, keep=keep, trusted=trusted)


def read_known(known: KnownPlaces) -> Iterator[VectorBlock]:
    """Yield each known vector once, in the order in which the sources store them.

    Each row group is read at most once, and only if it has a wanted row.
    """
    places = known.places
    groups = places[["source", "part"]]
    ends = np.flatnonzero(groups[1:] != groups[:-1]) + 1
    for some in np.split(places, ends) if len(places) else ():
        source = known.sources[int(some["source"][0])]
        yield from _read_part(source, int(some["part"][0]), np.unique(some["row"]))


def _read_part(
    source: PlaceSource, number: int, rows: npt.NDArray[np.uint32]
) -> Iterator[VectorBlock]:
    name = source.parts[number].name
    try:
        with open_part(source.dataset, name) as file:
            for table in read_rows(file, name, rows, _COLUMNS):
                yield from _blocks(table)
    except OutputError as error:
        log.warning("%s", error.message)


def _blocks(table: pa.Table) -> Iterator[VectorBlock]:
    batch: Any
    for batch in table.to_batches(_BLOCK_ROWS):
        yield VectorBlock(
            batch.column("text_hash").to_pylist(),
            matrix_of(batch),
            batch.column("truncated").to_pylist(),
        )
