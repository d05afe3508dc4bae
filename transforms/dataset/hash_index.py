"""The hash index: which row of which part of a dataset has the vector of a text.

It is made from the `text_hash` columns of the parts alone, and takes 16 bytes a row. A part never
changes, so its name and size say what it holds. Parts that an index does not know yet get a new
segment. Entries of parts that no longer count are skipped, until segments are merged.

The index of a dataset is in `_run/index/`. That of a dataset that must not be written is made in
a temporary folder, as far as the dataset has none.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bulkembed.schemas.messages import number_of
from bulkembed.transforms.core.hashing import Keys
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.index_segment import IndexSegment, SegmentError
from bulkembed.transforms.dataset.known_places import SourcePart
from bulkembed.transforms.dataset.segment_files import LiveSegment, SegmentFolder

log = logging.getLogger("bulkembed")

MAX_SEGMENTS = 8
"""With more, the smallest ones are merged, so that half of these remain."""
LOGGED_ROWS = 10_000
"""Indexing fewer rows takes no time that a user would notice."""
MAX_DEAD_SHARE = 0.5
"""A segment with more entries of parts that do not count is written again."""


class Found(NamedTuple):
    """The rows that have wanted texts, n of them, in the order of the wanted keys."""

    wanted: npt.NDArray[np.int64]
    """The place of each among the wanted keys; shape (n,)."""
    parts: npt.NDArray[np.uint32]
    """The number of its part in `HashIndex.parts`."""
    rows: npt.NDArray[np.uint32]
    """Its row in the part."""


class HashIndex:
    """The index of some parts of a dataset, brought up to date when it is opened.

    Args:
        dataset: the dataset.
        sizes: the parts with vectors that count, and their bytes.
        digest: the embedding digest of the vectors.
        scratch: a folder on a local disk, which must exist as long as the index.
        keep: whether the index is kept in the dataset; the caller must have its lock.
        trusted: whether all parts count; if not, those whose footer has the digest.

    Raises:
        OutputError: the dataset cannot be listed, or a disk is full.
    """

    def __init__(
        self,
        dataset: Dataset,
        sizes: Mapping[str, int],
        digest: str,
        scratch: Path,
        *,
        keep: bool,
        trusted: bool = True,
    ) -> None:
        self._folder = SegmentFolder(dataset, digest, scratch, keep, trusted)
        self._segments: list[LiveSegment] = []
        self._parts: dict[str, tuple[int, SourcePart]] = {}
        missing = dict(sizes)
        self._take(self._folder.stored(), missing)
        self._build(missing)
        if keep:
            self._merge()

    @property
    def dataset(self) -> Dataset:
        """The dataset that has the parts."""
        return self._folder.dataset

    @property
    def parts(self) -> tuple[SourcePart, ...]:
        """The parts that could be read, by their numbers."""
        return tuple(part for _, part in self._parts.values())

    @property
    def entries(self) -> int:
        """The number of entries on disk."""
        return sum(one.segment.entries for one in self._segments)

    def find(self, wanted: Keys) -> Found:
        """Return a row for each wanted text that a part has.

        The key is half of the hash: whoever reads the row compares its whole hash.

        Args:
            wanted: the keys of texts, ascending and distinct.

        Raises:
            OutputError: a damaged segment must be built again, and the disk is full.
        """
        while True:
            try:
                return self._find(wanted)
            except SegmentError as error:
                self._rebuild(error)

    def _find(self, wanted: Keys) -> Found:
        missing = np.arange(len(wanted))
        found = []
        for one in self._segments:
            hits = [np.empty(0, np.int64)]
            for at, places in one.segment.find(wanted[missing], one.live):
                hits.append(at)
                found.append(Found(missing[at], one.numbers[places["part"]], places["row"]))
            missing = np.delete(missing, np.concatenate(hits))
        none = Found(np.empty(0, np.int64), np.empty(0, np.uint32), np.empty(0, np.uint32))
        at, parts, rows = map(np.concatenate, zip(none, *found, strict=True))
        order = np.argsort(at)
        return Found(at[order], parts[order], rows[order])

    def _take(self, segments: Iterable[IndexSegment], missing: dict[str, int]) -> None:
        """Use the segments that have missing parts, which are missing no longer."""
        useless = []
        for segment in segments:
            live = np.array([missing.get(p.name) == p.size_bytes for p in segment.parts], bool)
            if not live.any():
                useless.append(segment)
                continue
            self._add(segment, live)
            for part in self._segments[-1].parts:
                del missing[part.name]
        self._folder.delete(useless)

    def _build(self, sizes: Mapping[str, int]) -> None:
        segment = self._folder.build(sizes) if sizes else None
        if segment is not None:
            self._add(segment)
            rows = sum(part.rows for part in segment.parts)
            level = logging.INFO if rows >= LOGGED_ROWS else logging.DEBUG
            log.log(level, "indexed the text hashes of %s", number_of(rows, "row"))

    def _add(self, segment: IndexSegment, live: npt.NDArray[np.bool_] | None = None) -> None:
        """Add a segment; a part that had a number before keeps it."""
        live = np.ones(len(segment.parts), bool) if live is None else live
        for part in itertools.compress(segment.parts, live):
            self._parts.setdefault(part.name, (len(self._parts), part))
        numbers = [self._parts.get(part.name, (0,))[0] for part in segment.parts]
        self._segments.append(LiveSegment(segment, live, np.array(numbers, np.uint32)))

    def _merge(self) -> None:
        """Merge segments if there are too many, or with too many entries that do not count."""
        ordered = sorted(self._segments, key=lambda one: one.segment.entries)
        surplus = len(ordered) - MAX_SEGMENTS // 2 + 1 if len(ordered) > MAX_SEGMENTS else 0
        merged = [
            one
            for number, one in enumerate(ordered)
            if number < surplus or one.dead_share > MAX_DEAD_SHARE
        ]
        if not merged:
            return
        try:
            segment = self._folder.merge(merged)
        except SegmentError as error:
            self._rebuild(error)
            return
        self._segments = [one for one in self._segments if one not in merged]
        self._add(segment)

    def _rebuild(self, error: SegmentError) -> None:
        """Index the parts of segments that cannot be read again."""
        log.warning("the index of text hashes is built again: %s", error)
        damaged = [one for one in self._segments if not one.segment.is_readable()]
        self._segments = [one for one in self._segments if one not in damaged]
        self._folder.delete(one.segment for one in damaged)
        parts = itertools.chain.from_iterable(one.parts for one in damaged)
        self._build({part.name: part.size_bytes for part in parts})
