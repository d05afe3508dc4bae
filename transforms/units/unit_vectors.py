"""The known vectors of a unit: in memory, in row groups of its own, or in gathered files."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from bulkembed.transforms.core.hashing import HASH_BYTES, Keys, among
from bulkembed.transforms.core.vectors import Matrix
from bulkembed.transforms.dataset.gathered_rows import (
    UNCOMMITTED,
    Labels,
    RowReader,
    hashes_of,
    sums_of,
)
from bulkembed.transforms.dataset.kept_answers import FLAGS
from bulkembed.transforms.dataset.known_vectors import VectorBlock
from bulkembed.transforms.dataset.wanted_rows import WantedGroup, read_blocks

_BLOCK_ROWS = 256
_GAP_ROWS = 4
"""Rows between two wanted ones that are read as well, because that takes less time."""
_READS = threading.BoundedSemaphore(2)
"""How many row groups units read at a time: on a store, each is in memory as a whole."""

log = logging.getLogger("bulkembed")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class GatheredRange:
    """Consecutive rows of a gathered file."""

    reader: RowReader
    rows: range


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class UnitVectors:
    """The known vectors of a unit, as a source of known vectors."""

    in_memory: Sequence[tuple[Labels, Matrix]]
    groups: Sequence[WantedGroup]
    """The row groups that only this unit wants."""
    gathered: Sequence[GatheredRange]

    def read(self, wanted: Keys) -> Iterator[VectorBlock]:
        """Yield the vectors of wanted texts, those in memory first; see `KnownVectors`."""
        for labels, vectors in self.in_memory:
            hits = _hits(labels, wanted)
            for start in range(0, len(hits), _BLOCK_ROWS):
                yield from _blocks(*_some(labels, vectors, hits[start : start + _BLOCK_ROWS]))
        for group in self.groups:
            with _READS:
                for block in read_blocks(group):
                    hits = _hits(block.labels, wanted)
                    if len(hits):
                        yield from _blocks(*_some(block.labels, block.vectors, hits))
        for part in self.gathered:
            labels = part.reader.labels(part.rows)
            yield from _gathered_blocks(part, labels, _hits(labels, wanted))


def _gathered_blocks(
    part: GatheredRange, labels: Labels, hits: npt.NDArray[np.int64]
) -> Iterator[VectorBlock]:
    """Yield some rows of a range, which are ascending, without those that are damaged."""
    for span in _spans(hits):
        first = part.rows.start
        vectors = part.reader.vectors(range(first + span.start, first + span.stop))
        own = hits[np.searchsorted(hits, span.start) : np.searchsorted(hits, span.stop)]
        some, found = _some(labels[span.start : span.stop], vectors, own - span.start)
        intact = some["sum"] == sums_of(some, found)
        if not intact.all():
            log.warning("gathered vectors are damaged, so their texts are sent again")
        yield from _blocks(*_some(some, found, np.flatnonzero(intact)))


def _blocks(labels: Labels, vectors: Matrix) -> Iterator[VectorBlock]:
    """Yield the vectors that runs have committed, then those of batch jobs."""
    is_new = labels["flag"] >= UNCOMMITTED
    for committed, own in ((True, ~is_new), (False, is_new)):
        rows = np.flatnonzero(own)
        if len(rows):
            some, found = _some(labels, vectors, rows)
            flags = [FLAGS[flag % UNCOMMITTED] for flag in some["flag"].tolist()]
            yield VectorBlock(_hashes(some), found, flags, committed=committed)


def _some(labels: Labels, vectors: Matrix, rows: npt.NDArray[np.int64]) -> tuple[Labels, Matrix]:
    """Return ascending rows, each at most once; they are not copied if they are adjacent."""
    if not len(rows):
        return labels[:0], vectors[:0]
    first, end = int(rows[0]), int(rows[-1]) + 1
    if end - first == len(rows):
        return labels[first:end], vectors[first:end]
    return labels[rows], vectors[rows]


def _hits(labels: Labels, wanted: Keys) -> npt.NDArray[np.int64]:
    return np.flatnonzero(among(_keys(labels), wanted))


def _keys(labels: Labels) -> Keys:
    return hashes_of(labels).view(np.uint64)[::2]


def _hashes(labels: Labels) -> list[bytes]:
    joined = hashes_of(labels).tobytes()
    return [joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES)]


def _spans(rows: npt.NDArray[np.int64]) -> Iterator[range]:
    """Yield ranges of rows to read at once that have all of the rows, which are ascending."""
    start = end = -1
    for row in rows.tolist():
        if start >= 0 and (row > end + _GAP_ROWS or row >= start + _BLOCK_ROWS):
            yield range(start, end)
            start = -1
        start, end = (row if start < 0 else start), row + 1
    if start >= 0:
        yield range(start, end)
