"""The committed parts of a dataset as a source of known vectors.

A part that cannot be read has no matches: its texts are sent again, and the run continues.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.units import UnitRecord
from bulkembed.transforms.core.hashing import Keys, keys
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.known_vectors import VectorBlock
from bulkembed.transforms.dataset.part_files import matrix_of, read_columns

log = logging.getLogger("bulkembed")

_BLOCK_ROWS = 256


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class PartRows:
    """Rows of one part that hold wanted texts."""

    part: str
    rows: npt.NDArray[np.int64]
    """Their numbers in the part, ascending."""
    keys: Keys
    """Their keys, in the order of `rows`."""


class CommittedVectors:
    """The vectors of committed units.

    Args:
        dataset: the dataset.
        records: its commit records; the parts of those without vectors are not read.
        digest: skip parts whose footers have another embedding digest.  None: trust the records.
    """

    def __init__(
        self, dataset: Dataset, records: Iterable[UnitRecord], digest: str | None = None
    ) -> None:
        self._dataset = dataset
        self._records = [record for record in records if record.embedded]
        self._digest = digest

    def find(self, wanted: Keys) -> CommittedMatches:
        """Return a row for each wanted text that is committed; only text hashes are read."""
        missing = np.ones(len(wanted), bool)
        found = []
        for part in self._vector_parts():
            if not missing.any():
                break
            table = _read(self._dataset, part, ["text_hash"])
            if table is None or not self._has_digest(table.schema):
                continue
            part_keys = keys(table["text_hash"].to_pylist())
            places = np.searchsorted(wanted, part_keys)
            places[places == len(wanted)] = 0
            hits = np.flatnonzero((wanted[places] == part_keys) & missing[places])
            _, first = np.unique(places[hits], return_index=True)
            rows = np.sort(hits[first])
            missing[places[rows]] = False
            if len(rows):
                found.append(PartRows(part, rows.astype(np.int64), part_keys[rows]))
        return CommittedMatches(self._dataset, found)

    def _has_digest(self, schema: pa.Schema) -> bool:
        found = (schema.metadata or {}).get(b"bulkembed.digest", b"").decode()
        return self._digest in (None, found)

    def _vector_parts(self) -> Iterator[str]:
        # Units of a group have the same part.
        parts = (part for one in self._records for part in self._dataset.parts_of(one).vectors)
        yield from dict.fromkeys(parts)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class CommittedMatches:
    """Committed rows that hold wanted texts; each part is read once."""

    dataset: Dataset
    parts: list[PartRows]

    def __len__(self) -> int:
        return sum(len(part.rows) for part in self.parts)

    @property
    def keys(self) -> Keys:
        """The keys of the rows, ascending and distinct."""
        return np.unique(np.concatenate([np.empty(0, np.uint64), *(p.keys for p in self.parts)]))

    def hashes(self) -> Iterator[bytes]:
        """Yield the text hash of each row."""
        for part in self.parts:
            table = _read(self.dataset, part.part, ["text_hash"])
            if table is not None:
                yield from table["text_hash"].take(pa.array(part.rows)).to_pylist()

    def read(self) -> Iterator[VectorBlock]:
        """Yield the vectors, part by part."""
        for part in self.parts:
            table = _read(self.dataset, part.part, ["text_hash", "truncated", "vector"])
            if table is None:
                continue
            for batch in table.take(pa.array(part.rows)).to_batches(_BLOCK_ROWS):
                yield VectorBlock(
                    batch.column("text_hash").to_pylist(),
                    matrix_of(batch),
                    batch.column("truncated").to_pylist(),
                )


def _read(dataset: Dataset, part: str, columns: list[str]) -> pa.Table | None:
    """Return columns of a part; None, with a warning, if it cannot be read."""
    try:
        return read_columns(dataset, part, columns)
    except OutputError as error:
        log.warning("%s", error.message)
        return None
