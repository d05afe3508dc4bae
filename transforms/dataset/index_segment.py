"""Segments of the hash index: sorted files that say which row of which part has a text.

A segment is a sequence of blocks. A block has the keys of its entries, ascending, and after them
the part and the row of each entry. All entries of one key are in one block. The footer has the
parts, the row groups of each, and the first key, the size and the CRC-32 of each block; then
follow the footer's CRC-32, its length, and a magic number. So a lookup reads the footer and the
blocks it needs, and nothing that is damaged or incomplete is ever used.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.fs as pafs
from isal import isal_zlib

from bulkembed.transforms.core.hashing import Keys
from bulkembed.transforms.dataset.known_places import SourcePart
from bulkembed.transforms.inputs.filesystems import error_line

ENTRY = np.dtype([("key", "<u8"), ("part", "<u4"), ("row", "<u4")])
"""The key of a text, the number of a part, and a row of it."""
Entries = npt.NDArray[Any]
"""Shape (n,), type ENTRY; ordered by key, part and row."""
BLOCK_ENTRIES = 1 << 16
_READ_BYTES = 8 << 20
"""Neighboring blocks are read together up to this size."""
_PLACE = np.dtype([("part", "<u4"), ("row", "<u4")])
_TAIL = struct.Struct("<IQ8s")
_MAGIC = b"BEINDEX1"
_TAIL_BYTES = 1 << 16
"""What is read first of a segment, in the hope that its footer fits."""


class SegmentError(Exception):
    """A segment is damaged, incomplete, missing, or of another format."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class IndexSegment:
    """A segment on a file system, of which only the footer is in memory."""

    filesystem: pafs.FileSystem
    path: str
    digest: str
    """The embedding digest of the vectors."""
    parts: tuple[SourcePart, ...]
    first_keys: Keys
    """The first key of each block, shape (blocks,)."""
    counts: npt.NDArray[np.int64]
    """The entries of each block."""
    sums: npt.NDArray[np.int64]
    """The CRC-32 of each block."""

    @property
    def entries(self) -> int:
        """The number of entries."""
        return int(self.counts.sum())

    @classmethod
    def open(cls, filesystem: pafs.FileSystem, path: str) -> IndexSegment:
        """Read the footer of a segment.

        Raises:
            SegmentError: it cannot be used.
        """
        try:
            with filesystem.open_input_file(path) as file:
                footer = orjson.loads(zlib.decompress(_read_footer(file)))
            parts = (SourcePart(name, size, tuple(rows)) for name, size, rows in footer["parts"])
            return cls(
                filesystem,
                path,
                footer["digest"],
                tuple(parts),
                np.array(footer["first_keys"], np.uint64),
                np.array(footer["counts"], np.int64),
                np.array(footer["sums"], np.int64),
            )
        except (OSError, pa.ArrowException) as error:
            raise SegmentError(f"{path}: {error_line(error)}") from error
        except (zlib.error, ValueError, KeyError, TypeError) as error:
            raise SegmentError(f"{path}: its footer is damaged") from error

    def find(
        self, wanted: Keys, live: npt.NDArray[np.bool_]
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[Any]]]:
        """Yield where wanted keys are, and a place for each of these, with fields part and row.

        It is the first place in a part that is live.

        Args:
            wanted: keys, ascending and distinct.
            live: whether each part counts, shape (parts,).

        Raises:
            SegmentError: the segment cannot be read.
        """
        block_of = np.searchsorted(self.first_keys, wanted, side="right") - 1
        blocks = np.unique(block_of)
        for number, keys, places in self._read(blocks[blocks >= 0]):
            low, high = np.searchsorted(block_of, [number, number + 1])
            some = wanted[low:high]
            at = np.searchsorted(keys, some)
            at[at == len(keys)] = 0
            hits = np.flatnonzero(keys[at] == some)
            hits, at = _first_live(keys, live[places["part"]], hits, at[hits])
            if len(hits):
                yield low + hits, places[at]

    def read(self) -> Iterator[Entries]:
        """Yield all entries in order, block by block.

        Raises:
            SegmentError: the segment cannot be read.
        """
        for _, keys, places in self._read(np.arange(len(self.counts))):
            entries = np.empty(len(keys), ENTRY)
            entries["key"] = keys
            entries["part"], entries["row"] = places["part"], places["row"]
            yield entries

    def is_readable(self) -> bool:
        """Return whether all entries can be read."""
        try:
            for _ in self._read(np.arange(len(self.counts))):
                pass
        except SegmentError:
            return False
        return True

    def _read(self, blocks: npt.NDArray[np.int64]) -> Iterator[tuple[int, Keys, npt.NDArray[Any]]]:
        """Yield the number, the keys and the places of some blocks, which are ascending."""
        sizes = self.counts * ENTRY.itemsize
        begins = np.cumsum(sizes) - sizes
        if not len(blocks):
            return
        try:
            with self.filesystem.open_input_file(self.path) as file:
                for group in _neighbors(blocks, begins, sizes):
                    begin, end = begins[group[0]], begins[group[-1]] + sizes[group[-1]]
                    data = file.read_at(int(end - begin), int(begin))
                    for number in group:
                        low = int(begins[number] - begin)
                        yield self._block(number, memoryview(data)[low : low + int(sizes[number])])
        except (OSError, pa.ArrowException) as error:
            raise SegmentError(f"{self.path}: {error_line(error)}") from error

    def _block(self, number: int, data: memoryview) -> tuple[int, Keys, npt.NDArray[Any]]:
        if isal_zlib.crc32(data) != self.sums[number]:
            raise SegmentError(f"{self.path}: block {number} is damaged")
        count = int(self.counts[number])
        keys: Keys = np.frombuffer(data, np.uint64, count)
        return number, keys, np.frombuffer(data, _PLACE, count, offset=8 * count)


def _neighbors(
    blocks: npt.NDArray[np.int64], begins: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]
) -> Iterator[list[int]]:
    """Yield blocks in groups that lie one after another."""
    group: list[int] = []
    for number in blocks.tolist():
        if group and (
            number != group[-1] + 1
            or begins[number] + sizes[number] - begins[group[0]] > _READ_BYTES
        ):
            yield group
            group = []
        group.append(number)
    yield group


def _first_live(
    keys: Keys,
    live: npt.NDArray[np.bool_],
    hits: npt.NDArray[np.int64],
    at: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Move each hit on to the first live entry of its key; leave out those without any."""
    good = live[at]
    if good.all():
        return hits, at
    found_hits, found_at = [hits[good]], [at[good]]
    hits, at = hits[~good], at[~good]
    while len(hits):
        following = at + 1
        inside = following < len(keys)
        same = inside.copy()
        same[inside] = keys[following[inside]] == keys[at[inside]]
        hits, at = hits[same], following[same]
        good = live[at]
        found_hits.append(hits[good])
        found_at.append(at[good])
        hits, at = hits[~good], at[~good]
    every_hit, every_at = np.concatenate(found_hits), np.concatenate(found_at)
    order = np.argsort(every_hit)
    return every_hit[order], every_at[order]


def _read_footer(file: pa.NativeFile) -> bytes:
    size = file.size()
    tail = file.read_at(min(size, _TAIL_BYTES), max(0, size - _TAIL_BYTES))
    if len(tail) < _TAIL.size or tail[-8:] != _MAGIC:
        raise ValueError("not a segment")
    checksum, length, _ = _TAIL.unpack(tail[-_TAIL.size :])
    if length > size - _TAIL.size:
        raise ValueError("the footer is larger than the file")
    begin = len(tail) - _TAIL.size - length
    footer = tail[begin : -_TAIL.size] if begin >= 0 else b""
    if begin < 0:
        footer = file.read_at(length, size - _TAIL.size - length)
    if isal_zlib.crc32(footer) != checksum:
        raise ValueError("the checksum of the footer is wrong")
    return bytes(footer)


class SegmentWriter:
    """Writes a segment; add the entries in order, then `finish`.

    Args:
        write: writes bytes to the file.
    """

    def __init__(self, write: Callable[[bytes | memoryview], Any]) -> None:
        self._write = write
        self._pending = np.empty(0, ENTRY)
        self._first_keys: list[int] = []
        self._counts: list[int] = []
        self._sums: list[int] = []

    def add(self, entries: Entries) -> None:
        """Add entries whose keys are not below those of earlier ones."""
        self._pending = np.concatenate([self._pending, entries])
        while len(self._pending) > BLOCK_ENTRIES and self._write_block():
            pass

    def finish(self, parts: Sequence[SourcePart], digest: str) -> None:
        """Write the rest, and the footer.

        Args:
            parts: the parts, by their numbers in the entries.
            digest: the embedding digest of their vectors.
        """
        while len(self._pending):
            if len(self._pending) <= BLOCK_ENTRIES or not self._write_block():
                self._write_entries(len(self._pending))
        footer = zlib.compress(
            orjson.dumps(
                {
                    "digest": digest,
                    "first_keys": self._first_keys,
                    "counts": self._counts,
                    "sums": self._sums,
                    "parts": [(part.name, part.size_bytes, part.group_rows) for part in parts],
                }
            )
        )
        self._write(footer)
        self._write(_TAIL.pack(isal_zlib.crc32(footer), len(footer), _MAGIC))

    def _write_block(self) -> bool:
        """Write a block that ends between two keys, if the end of its last key is known."""
        keys = self._pending["key"]
        end = int(np.searchsorted(keys, keys[BLOCK_ENTRIES]))
        if not end:  # One key has more entries than a block.
            end = int(np.searchsorted(keys, keys[0], side="right"))
            if end == len(keys):
                return False
        self._write_entries(end)
        return True

    def _write_entries(self, count: int) -> None:
        entries, self._pending = self._pending[:count], self._pending[count:]
        places = np.empty(count, _PLACE)
        places["part"], places["row"] = entries["part"], entries["row"]
        data = np.ascontiguousarray(entries["key"]).tobytes() + places.tobytes()
        self._first_keys.append(int(entries["key"][0]))
        self._counts.append(count)
        self._sums.append(isal_zlib.crc32(data))
        self._write(data)


def in_order(entries: Entries) -> Entries:
    """Return entries by key, part and row; of a text that a part has again, only the first row."""
    ordered = entries[np.argsort(entries["key"])]
    same = ordered["key"][1:] == ordered["key"][:-1]
    if same.any():
        ties = np.flatnonzero(np.append(same, False) | np.insert(same, 0, False))
        some = ordered[ties]
        ordered[ties] = some[np.lexsort((some["row"], some["part"], some["key"]))]
        again = same & (ordered["part"][1:] == ordered["part"][:-1])
        ordered = ordered[~np.insert(again, 0, False)]
    return ordered
