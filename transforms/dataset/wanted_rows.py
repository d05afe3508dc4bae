"""Lists of the known vectors that units want: rows of parts, as files for the workers.

There is one for each piece of work: the size of the facts, the facts as JSON, and an array of the
type WANTED.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from bulkembed.schemas.errors import OutputError
from bulkembed.transforms.core.hashing import HASH_BYTES
from bulkembed.transforms.core.vectors import Matrix
from bulkembed.transforms.dataset import part_files
from bulkembed.transforms.dataset.batch_answers import is_answers_name
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.gathered_rows import LABEL, UNCOMMITTED, Labels
from bulkembed.transforms.dataset.kept_answers import FLAGS
from bulkembed.transforms.dataset.work_lists import read_list, write_list

WANTED = np.dtype([("unit", "<u4"), ("part", "<u4"), ("row", "<u4")])
"""The number of a unit in the plan, the number of a part in the list, and a row of the part."""
SUFFIX = ".wanted"
_SIZE = struct.Struct("<I")
_COLUMNS = ("text_hash", "truncated", "vector")
_BLOCK_BYTES = 1 << 20
"""About how much memory the vectors of one block take. Arrow needs several times that to decode
them, and keeps it for each thread."""

log = logging.getLogger("bulkembed")


@dataclasses.dataclass(frozen=True, slots=True)
class WantedPart:
    """A part of which some rows are wanted."""

    source: str
    """The URI of its dataset."""
    name: str
    """Within its dataset."""
    size_bytes: int
    group_rows: tuple[int, ...]
    """Rows of each of its row groups."""


@dataclasses.dataclass(frozen=True, slots=True)
class UnitNumber:
    """Where a unit of the plan begins, and its number."""

    file_key: str
    first_row: int
    number: int


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class WantedGroup:
    """Wanted rows of one row group."""

    part: WantedPart
    group: int
    units: npt.NDArray[np.uint32]
    """Which unit wants each row, shape (n,)."""
    rows: npt.NDArray[np.int64]
    """The rows, counted from the first one of the row group; ascending, shape (n,)."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class WantedRows:
    """The rows that one piece of work reads."""

    parts: tuple[WantedPart, ...]
    rows: npt.NDArray[Any]
    """Shape (n,), type WANTED, ordered by part and row."""
    units: tuple[UnitNumber, ...] = ()
    """The units of a slice; none if the rows are gathered."""

    def groups(self) -> Iterator[WantedGroup]:
        """Yield the wanted rows of each row group, in order."""
        starts = np.searchsorted(self.rows["part"], np.arange(len(self.parts) + 1))
        for number, part in enumerate(self.parts):
            rows = self.rows[starts[number] : starts[number + 1]]
            ends = np.cumsum(part.group_rows)
            cuts = [0, *np.searchsorted(rows["row"], ends).tolist()]
            for group, size in enumerate(part.group_rows):
                some = rows[cuts[group] : cuts[group + 1]]
                if len(some):
                    first = int(ends[group]) - size
                    yield WantedGroup(
                        part, group, some["unit"].copy(), some["row"].astype(np.int64) - first
                    )

    def write(self, dataset: Dataset, run_id: str, name: str) -> None:
        """Write the list to a file of a run.

        Raises:
            OutputError: the file cannot be written.
        """
        facts = orjson.dumps(
            {
                "parts": [(p.source, p.name, p.size_bytes, p.group_rows) for p in self.parts],
                "units": [(u.file_key, u.first_row, u.number) for u in self.units],
            }
        )
        content = _SIZE.pack(len(facts)) + facts + self.rows.tobytes()
        write_list(dataset, run_id, name + SUFFIX, content)

    @classmethod
    def read(cls, dataset: Dataset, run_id: str, name: str) -> WantedRows:
        """Read the list from a file of a run.

        Raises:
            OutputError: the file is missing, damaged, or cannot be read.
        """
        data = read_list(dataset, run_id, name + SUFFIX)
        end = _SIZE.size + _SIZE.unpack_from(data)[0]
        facts = orjson.loads(data[_SIZE.size : end])
        return cls(
            tuple(
                WantedPart(source, name, size_bytes, tuple(group_rows))
                for source, name, size_bytes, group_rows in facts["parts"]
            ),
            np.frombuffer(data[end:], WANTED),
            tuple(UnitNumber(*unit) for unit in facts["units"]),
        )


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class WantedBlock:
    """Wanted rows of a row group, n of them; a row that several units want is repeated."""

    units: npt.NDArray[np.uint32]
    """Which unit wants each row, shape (n,)."""
    labels: Labels
    """Without sums, shape (n,)."""
    vectors: Matrix
    """Shape (n, dim)."""


def read_blocks(wanted: WantedGroup) -> Iterator[WantedBlock]:
    """Yield the wanted rows of a row group, in order; none, with a warning, if unreadable.

    If the row group is damaged, its first rows may be there. Blocks may share memory.
    """
    try:
        yield from _read_group(_source_at(wanted.part.source), wanted)
    except OutputError as error:
        log.warning("%s: %s The texts are sent again.", wanted.part.source, error.message)


@functools.lru_cache(maxsize=64)
def _source_at(uri: str) -> Dataset:
    """Return the dataset at a URI: one object for each."""
    return Dataset.open(uri)


def _read_group(dataset: Dataset, wanted: WantedGroup) -> Iterator[WantedBlock]:
    """Read a row group once, in blocks of a few megabytes.

    Raises:
        OutputError: the part cannot be read, or is not the part that was wanted.
    """
    part = part_files.open_sized_part(dataset, wanted.part.name, wanted.part.size_bytes)
    part_files.check_row_groups(part, wanted.part.name, wanted.part.group_rows)
    first = 0
    rows = max(64, _BLOCK_BYTES // (4 * part.schema_arrow.field("vector").type.list_size))
    for block in part_files.read_blocks(part, wanted.part.name, _COLUMNS, rows, [wanted.group]):
        low, high = np.searchsorted(wanted.rows, [first, first + block.num_rows])
        if low < high:
            labels, vectors = _content(block, wanted.rows[low:high] - first)
            if is_answers_name(wanted.part.name):
                labels["flag"] += UNCOMMITTED
            yield WantedBlock(wanted.units[low:high], labels, vectors)
        first += block.num_rows


def _content(block: pa.RecordBatch, rows: npt.NDArray[np.int64]) -> tuple[Labels, Matrix]:
    """Return labels without sums and the vectors of some rows of a block."""
    some = _rows_of(block, rows)
    labels = np.zeros(some.num_rows, LABEL)
    hashes = some.column("text_hash")
    labels["hash"] = np.frombuffer(
        hashes.buffers()[1], f"S{HASH_BYTES}", some.num_rows, hashes.offset * HASH_BYTES
    )
    flags = pc.fill_null(pc.cast(some.column("truncated"), pa.uint8()), FLAGS.index(None))
    labels["flag"] = flags.to_numpy(zero_copy_only=False)
    return labels, part_files.matrix_of(some)


def _rows_of(block: pa.RecordBatch, rows: npt.NDArray[np.int64]) -> pa.RecordBatch:
    """Return ascending rows of a block: in place if that keeps little else in memory."""
    are_adjacent = bool((np.diff(rows) == 1).all())
    if are_adjacent and 2 * len(rows) >= block.num_rows:
        return block.slice(int(rows[0]), len(rows))
    return block.take(pa.array(rows))
