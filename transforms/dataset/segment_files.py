"""Building, merging and storing the segments of a hash index."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import itertools
import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs as pafs

from bulkembed.schemas.errors import OutputError
from bulkembed.transforms.core.hashing import Keys
from bulkembed.transforms.dataset.atomic_files import output_error, write_atomically
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.index_segment import (
    ENTRY,
    Entries,
    IndexSegment,
    SegmentError,
    SegmentWriter,
    in_order,
)
from bulkembed.transforms.dataset.known_places import SourcePart
from bulkembed.transforms.dataset.layout import INDEX, SEGMENT_SUFFIX, TEMP_PREFIX
from bulkembed.transforms.dataset.part_files import open_sized_part, read_row_groups, rows_of_groups
from bulkembed.transforms.dataset.partitioned_rows import PartitionedRows, partitions_for
from bulkembed.transforms.dataset.row_keys import hash_keys
from bulkembed.transforms.inputs.filesystems import error_line

log = logging.getLogger("bulkembed")

STORE_THREADS = 32
"""Parts that are read from a store at a time; most of that is waiting."""
_BATCH_PARTS = 128
_MERGE_ENTRIES = 1 << 20
_COPY_BYTES = 8 << 20


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class LiveSegment:
    """A segment, and which of its parts count."""

    segment: IndexSegment
    live: npt.NDArray[np.bool_]
    """Shape (parts of the segment,)."""
    numbers: npt.NDArray[np.uint32]
    """The numbers of its parts in the index; arbitrary for those that do not count."""

    @property
    def parts(self) -> list[SourcePart]:
        """The parts that count."""
        return list(itertools.compress(self.segment.parts, self.live))

    @property
    def dead_share(self) -> float:
        """How many of its rows are in parts that do not count, from 0 to 1."""
        every = sum(part.rows for part in self.segment.parts)
        return 1 - sum(part.rows for part in self.parts) / every if every else 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class SegmentFolder:
    """Where the segments of an index are.

    Args:
        dataset: the dataset, whose segments are in `_run/index/`.
        digest: the embedding digest of its vectors.
        scratch: a folder on a local disk for what is not written to the dataset.
        keep: whether segments are kept in the dataset; the caller must have its lock.
        trusted: whether all parts count; if not, those whose footer has the digest. Then stored
            segments are not used.
    """

    dataset: Dataset
    digest: str
    scratch: Path
    keep: bool
    trusted: bool = True

    @property
    def local(self) -> Path:
        """The folder in which segments are written."""
        in_dataset = self.keep and not self.dataset.is_on_a_store
        return Path(self.dataset.path(INDEX)) if in_dataset else self.scratch

    def stored(self) -> list[IndexSegment]:
        """Return the segments in the dataset that can be used, the largest first.

        What cannot be used is deleted: damaged segments, those of other settings, and files that a
        killed run has left behind.
        """
        found: list[IndexSegment] = []
        useless = []
        for name in self.dataset.names(INDEX) if self.trusted else ():
            segment = self._open(name)
            if segment is not None and segment.digest == self.digest:
                found.append(segment)
            else:
                useless.append(f"{INDEX}/{name}")
        if self.keep:
            self.dataset.delete(useless)
        return sorted(found, key=lambda one: (-one.entries, one.path))

    def _open(self, name: str) -> IndexSegment | None:
        if not name.endswith(SEGMENT_SUFFIX) or name.startswith(TEMP_PREFIX):
            return None
        try:
            return IndexSegment.open(self.dataset.filesystem, self.dataset.path(INDEX, name))
        except SegmentError:
            return None

    def delete(self, segments: Iterable[IndexSegment]) -> None:
        """Delete segments, as far as this index may."""
        names = [segment.path.rpartition("/")[2] for segment in segments]
        for name in names:
            (self.scratch / name).unlink(missing_ok=True)
        if self.keep:
            self.dataset.delete(f"{INDEX}/{name}" for name in names)

    def build(self, sizes: Mapping[str, int]) -> IndexSegment | None:
        """Write a segment of some parts; None if no part can be read.

        Args:
            sizes: the names of the parts, and their bytes.

        Raises:
            OutputError: the disk is full.
        """
        batches = self._read_parts(sizes)
        first = next(batches, [])
        rows = sum(one.part.rows for one in first)
        sample_bytes = sum(one.part.size_bytes for one in first)
        likely_rows = rows * sum(sizes.values()) // max(1, sample_bytes)
        with SegmentBuilder(self, likely_rows) as builder:
            for one in itertools.chain(first, itertools.chain.from_iterable(batches)):
                builder.add(one.part, one.keys)
            return builder.finish()

    def merge(self, segments: Sequence[LiveSegment]) -> IndexSegment:
        """Write a segment of the live entries of others, which are deleted.

        Raises:
            SegmentError: one of them cannot be read.
            OutputError: the disk is full.
        """
        parts = list(itertools.chain.from_iterable(one.parts for one in segments))
        merged = self.write(_merged(segments), parts)
        self.delete(one.segment for one in segments)
        return merged

    def _read_parts(self, sizes: Mapping[str, int]) -> Iterator[list[_PartKeys]]:
        """Yield the keys of parts in batches; parts that cannot be read are left out."""
        read = functools.partial(_read_part, self)
        threads = STORE_THREADS if self.dataset.is_on_a_store else min(2, os.cpu_count() or 1)
        remaining = iter(sizes.items())
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            while batch := list(itertools.islice(remaining, _BATCH_PARTS)):
                yield [one for one in pool.map(read, *zip(*batch, strict=True)) if one]

    def make_local(self) -> None:
        """Make the folder in which segments are written.

        Raises:
            OutputError: it cannot be made.
        """
        try:
            self.local.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(str(self.local), error) from error

    def write(self, blocks: Iterable[Entries], parts: Sequence[SourcePart]) -> IndexSegment:
        """Write a segment; the blocks are its entries in order.

        Raises:
            OutputError: the disk is full.
        """
        path = self.local / f"{secrets.token_hex(8)}{SEGMENT_SUFFIX}"
        disk = pafs.LocalFileSystem()

        def write(stream: pa.NativeFile) -> None:
            writer = SegmentWriter(stream.write)
            for block in blocks:
                writer.add(block)
            writer.finish(parts, self.digest)

        write_atomically(disk, str(path), write)
        if self.keep and self.dataset.is_on_a_store:
            self._upload(path)
        return IndexSegment.open(disk, str(path))

    def _upload(self, path: Path) -> None:
        """Copy a segment to the store, where an incomplete copy is no segment.

        This run uses the copy on its disk. If there is none on the store, the next run builds the
        segment again.
        """
        target = self.dataset.path(INDEX, path.name)
        try:
            with (
                path.open("rb") as file,
                self.dataset.filesystem.open_output_stream(target) as stream,
            ):
                shutil.copyfileobj(file, stream, _COPY_BYTES)
        except (OSError, pa.ArrowException) as error:
            log.warning("%s cannot be written: %s", target, error_line(error))


class SegmentBuilder:
    """Makes a segment of the keys of parts, which are sorted on disk.

    Args:
        folder: where the segment is written.
        likely_rows: about how many keys there are, which decides how much memory sorting takes.

    Raises:
        OutputError: the disk is full.
    """

    def __init__(self, folder: SegmentFolder, likely_rows: int) -> None:
        folder.make_local()
        self._folder = folder
        partitions = partitions_for(likely_rows, ENTRY.itemsize)
        self._entries = PartitionedRows(folder.local, ENTRY, partitions)
        self._parts: list[SourcePart] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._entries.close()

    def add(self, part: SourcePart, keys: Iterable[Keys]) -> None:
        """Add the keys of the rows of a part, block by block.

        Raises:
            OutputError: the disk is full.
        """
        start = 0
        for some in keys:
            end = start + len(some)
            rows = np.arange(start, end)
            self._entries.add_columns(key=some, part=len(self._parts), row=rows)
            start = end
        self._parts.append(part)

    def finish(self) -> IndexSegment | None:
        """Write the segment; None if it has no part.

        Raises:
            OutputError: the disk is full.
        """
        if not self._parts:
            return None
        entries = self._entries
        blocks = (in_order(entries.read(n)) for n in range(entries.partitions))
        return self._folder.write(blocks, self._parts)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _PartKeys:
    part: SourcePart
    keys: list[Keys]
    """Of each row group."""


def _read_part(folder: SegmentFolder, name: str, size_bytes: int) -> _PartKeys | None:
    """Return the keys of a part; none if its vectors were made with other settings."""
    try:
        with open_sized_part(folder.dataset, name, size_bytes) as file:
            part = SourcePart(name, size_bytes, rows_of_groups(file))
            found = (file.schema_arrow.metadata or {}).get(b"bulkembed.digest", b"").decode()
            if found != folder.digest and not folder.trusted:
                return _PartKeys(part, [])
            tables = read_row_groups(file, name, ["text_hash"])
            return _PartKeys(part, [hash_keys(table["text_hash"]) for table in tables])
    except OutputError as error:
        log.warning("%s", error.message)
        return None


def _merged(segments: Sequence[LiveSegment]) -> Iterator[Entries]:
    """Yield the live entries of several segments, in order."""
    readers, first = [], 0
    for one in segments:
        readers.append(_Reader(one, first))
        first += len(one.parts)
    buckets = 1 + sum(one.segment.entries for one in segments) // _MERGE_ENTRIES
    for number in range(buckets):
        last_key = 2**64 * (number + 1) // buckets - 1
        entries = np.concatenate([reader.until(last_key) for reader in readers])
        yield in_order(entries)


class _Reader:
    """Reads the live entries of a segment with ascending keys; its parts get new numbers."""

    def __init__(self, one: LiveSegment, first: int) -> None:
        self._blocks = one.segment.read()
        self._live = one.live
        self._numbers = first - 1 + np.cumsum(one.live)
        self._pending = np.empty(0, ENTRY)

    def until(self, last_key: int) -> Entries:
        """Return the next entries up to a key."""
        found = []
        while True:
            end = int(np.searchsorted(self._pending["key"], np.uint64(last_key), side="right"))
            found.append(self._pending[:end])
            self._pending = self._pending[end:]
            if len(self._pending):
                break
            block = next(self._blocks, None)
            if block is None:
                break
            block = block[self._live[block["part"]]]
            block["part"] = self._numbers[block["part"]]
            self._pending = block
        return np.concatenate(found)
