"""The search for texts that several units want, and for known vectors, at any number of rows.

The texts of all planned rows are read once. The key of each text, and where it is, go to
partitions on disk by the key. Each partition then has all places of its texts, and fits into
memory: there the texts that repeat are found, and the keys are looked up in the indexes of the
sources of known vectors.

A committed mean of passages has the hash of its whole text. So if rows get means, their long texts
are read before and looked up as a whole; the passages of those that are found are left out.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bulkembed.pipeline.run.plan import Plan
from bulkembed.schemas.embedding import EmbeddingConfig, LongText
from bulkembed.schemas.inputs import InputColumns
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.units import FileUnits
from bulkembed.transforms.core import hashing
from bulkembed.transforms.core.content import sent_hasher
from bulkembed.transforms.core.passages import may_be_cut, passage_spans
from bulkembed.transforms.core.repeats import Repeats, find_repeats, first_and_last
from bulkembed.transforms.dataset.hash_index import HashIndex
from bulkembed.transforms.dataset.known_places import (
    NO_PLACES,
    PLACE,
    KnownPlaces,
    PlaceSource,
    write_places,
)
from bulkembed.transforms.dataset.partitioned_rows import PartitionedRows, partitions_for
from bulkembed.transforms.dataset.row_contents import RowContents
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import read_batches
from bulkembed.transforms.inputs.rows import RowBatch
from bulkembed.transforms.units.distinct_contents import why_blank
from bulkembed.transforms.units.media_rows import hash_without_fetching
from bulkembed.transforms.units.media_units import media_root, windows
from bulkembed.transforms.units.shared_texts import text_only

TEXT = np.dtype([("key", "<u8"), ("place", "<u8")])
"""The key of a text, and its place: the planned row, times 2^24, plus the passage."""
_PASSAGE_BITS = np.uint64(24)
PARTITION_BYTES = BUFFER_BYTES = 4 << 20
"""Small: units may be embedded in this process meanwhile. Comparing a partition takes about ten
times its size."""
_PASSAGES_PER_ROW = 8
"""Assumed if texts are cut into passages; decides only how many partitions there are."""

Places = npt.NDArray[np.uint64]
StopCheck = Callable[[], object]
"""Raises an error if the search is to end."""
IsKnown = npt.NDArray[np.bool_]
"""Whether the whole text of each planned row has a known vector."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FoundTexts:
    """What a search has found."""

    rows: npt.NDArray[np.int64]
    """The planned row of each text that is to send first and that no source has: one that several
    units want, or every one; ascending, (n,)."""
    passages: npt.NDArray[np.int64]
    """The passage of the row that each text is, (n,)."""
    keys: hashing.Keys
    """The key of each text, (n,), if every one was asked for; otherwise empty."""
    known: KnownPlaces
    """The known vectors that units want."""
    known_texts: int
    """How many distinct texts have a known vector."""
    waiting: npt.NDArray[np.bool_]
    """Which units want a text that no source has, by their numbers in the plan."""
    settled: hashing.Keys
    """The keys of the settled texts that units want and no source has; distinct."""


def search_texts(
    job: JobConfig,
    plan: Plan,
    sources: Sequence[HashIndex],
    folder: Path,
    *,
    every: bool = False,
    settled: hashing.Keys | None = None,
    contents: RowContents | None = None,
    check: StopCheck = lambda: None,
) -> FoundTexts:
    """Read the texts of all planned rows, and find those that are shared or known.

    Args:
        job: the run.
        plan: its rows.
        sources: indexes of known vectors, in order of preference.
        folder: an existing folder on a local disk, for temporary files without names.
        every: whether to find every text that no source has, instead of those that several units
            want.
        settled: the keys of texts that need no vector, ascending and distinct.
        contents: those of rows with media that were read.
        check: called again and again; the search ends with what it raises.

    Raises:
        InputError: a file cannot be read.
        OutputError: the disk is full.
    """
    cuts = job.embedding.long_text.cuts
    likely = plan.planned_rows * (_PASSAGES_PER_ROW if cuts else 1)
    # Units of long texts and of media are split between rows.
    by_row = cuts or job.embedding.media is not None
    search = _Search(plan, sources, settled, by_row=by_row, every=every, check=check)
    with (
        _partitioned(folder, likely) as texts,
        PartitionedRows(folder, PLACE, 1) as whole,
    ):
        is_known = None
        if sources and job.embedding.long_text is LongText.MEAN:
            is_known = _find_whole_texts(job, plan, search, folder, whole)
        for keys, places in _planned_texts(job, plan, is_known, contents):
            check()
            texts.add_columns(key=keys, place=places)
        if not sources:
            for _ in search.known_places(texts):
                pass
            return search.result(NO_PLACES)
        origins = [PlaceSource(source.dataset, source.parts) for source in sources]
        known = itertools.chain(whole.pieces(0), search.known_places(texts))
        found = write_places(folder, origins, known, len(texts) + len(whole))
        return search.result(found)


def distinct_keys(job: JobConfig, plan: Plan, check: StopCheck) -> hashing.Keys:
    """Return the keys of the texts of all planned rows, ascending and distinct; in memory.

    Raises:
        InputError: a file cannot be read.
    """
    found = [np.empty(0, np.uint64)]
    for keys, _ in _planned_texts(job, plan, None, None):
        check()
        found.append(keys)
    return np.unique(np.concatenate(found))


def _find_whole_texts(
    job: JobConfig, plan: Plan, search: _Search, folder: Path, found: PartitionedRows
) -> IsKnown:
    """Look up the long texts of all planned rows as a whole; add the places to `found`."""
    with _partitioned(folder, plan.planned_rows) as texts:
        for keys, places in _long_texts(job, plan):
            texts.add_columns(key=keys, place=places)
        is_known = np.zeros(search.rows, bool)
        for known in search.whole_places(texts, is_known):
            found.add(known)
    return is_known


def _partitioned(folder: Path, likely: int) -> PartitionedRows:
    """Return partitions for about so many texts, as TEXT."""
    partitions = partitions_for(likely, TEXT.itemsize, PARTITION_BYTES)
    return PartitionedRows(folder, TEXT, partitions, buffer_bytes=BUFFER_BYTES)


class _Search:
    """Searches partition after partition.

    Args:
        plan: the planned rows.
        sources: indexes of known vectors.
        settled: as for `search_texts`.
        by_row: whether each row counts as a unit, because a unit may be committed row by row.
        every: as for `search_texts`.
        check: as for `search_texts`.
    """

    def __init__(
        self,
        plan: Plan,
        sources: Sequence[HashIndex],
        settled: hashing.Keys | None,
        *,
        by_row: bool,
        every: bool,
        check: StopCheck,
    ) -> None:
        sizes = [unit.rows for file in plan.work for unit in file.units]
        self._ends = np.cumsum(sizes)
        self._sources = sources
        self._settled = np.empty(0, np.uint64) if settled is None else settled
        self._by_row = by_row
        self._every = every
        self._check = check
        self._waiting = np.zeros(len(sizes), bool)
        self._shared: list[Places] = []
        self._keys: list[hashing.Keys] = []
        self._wanted_settled: list[hashing.Keys] = []
        self._known_texts = 0

    @property
    def rows(self) -> int:
        """The number of planned rows."""
        return int(self._ends[-1])

    def known_places(self, texts: PartitionedRows) -> Iterator[npt.NDArray[Any]]:
        """Yield the places of known vectors that units want, as PLACE; note the shared texts."""
        for repeats in _repeats(texts):
            self._check()
            rows = self._rows(repeats.places)
            source_of, parts, part_rows = self._look_up(repeats.keys)
            is_known = source_of >= 0
            is_settled = ~is_known & hashing.among(repeats.keys, self._settled)
            self._wanted_settled.append(repeats.keys[is_settled])
            is_missing = ~is_known & ~is_settled
            self._waiting[self._units(rows)[is_missing[repeats.text]]] = True
            if not self._every:
                groups = rows if self._by_row else self._units(rows)
                is_missing &= groups[repeats.first] != groups[repeats.last]
            self._shared.append(repeats.places[repeats.first[is_missing]])
            if self._every:
                self._keys.append(repeats.keys[is_missing])
            yield self._wanted(repeats, source_of, parts, part_rows)

    def whole_places(self, texts: PartitionedRows, is_known: IsKnown) -> Iterator[npt.NDArray[Any]]:
        """Yield the places of long texts that are known as a whole, as PLACE; note their rows."""
        for repeats in _repeats(texts):
            source_of, parts, part_rows = self._look_up(repeats.keys)
            is_known[self._rows(repeats.places[source_of[repeats.text] >= 0])] = True
            yield self._wanted(repeats, source_of, parts, part_rows)

    def _look_up(
        self, wanted: hashing.Keys
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
        """Return the source of each text, -1 for none, and the part and the row there."""
        source_of = np.full(len(wanted), -1)
        parts, rows = np.zeros(len(wanted), np.uint32), np.zeros(len(wanted), np.uint32)
        for number, source in enumerate(self._sources):
            missing = np.flatnonzero(source_of < 0)
            found = source.find(wanted[missing])
            at = missing[found.wanted]
            source_of[at], parts[at], rows[at] = number, found.parts, found.rows
        return source_of, parts, rows

    def _wanted(
        self,
        repeats: Repeats,
        source_of: npt.NDArray[np.int64],
        parts: npt.NDArray[np.uint32],
        part_rows: npt.NDArray[np.uint32],
    ) -> npt.NDArray[Any]:
        is_known = source_of >= 0
        self._known_texts += int(is_known.sum())
        wanted = np.flatnonzero(is_known[repeats.text])
        text = repeats.text[wanted]
        units = self._units(self._rows(repeats.places[wanted]))
        again = np.zeros(len(wanted), bool)  # The places of a text ascend, so its units do, too.
        again[1:] = (text[1:] == text[:-1]) & (units[1:] == units[:-1])
        text, units = text[~again], units[~again]
        places = np.empty(len(text), PLACE)
        places["key"], places["unit"] = repeats.keys[text], units
        places["source"], places["part"] = source_of[text], parts[text]
        places["row"] = part_rows[text]
        return places

    def _units(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        units: npt.NDArray[np.int64] = np.searchsorted(self._ends, rows, side="right")
        return units

    @staticmethod
    def _rows(places: Places) -> npt.NDArray[np.int64]:
        return (places >> _PASSAGE_BITS).astype(np.int64)

    def result(self, known: KnownPlaces) -> FoundTexts:
        """Return what was found."""
        places, keys = (_joined(arrays) for arrays in (self._shared, self._keys))
        if self._every:
            order = np.argsort(places)
            places, keys = places[order], keys[order]
        else:
            places.sort()
        passages = places & np.uint64((1 << int(_PASSAGE_BITS)) - 1)
        return FoundTexts(
            self._rows(places),
            passages.astype(np.int64),
            keys,
            known,
            self._known_texts,
            self._waiting,
            _joined(self._wanted_settled),
        )


def _joined(arrays: Sequence[npt.NDArray[np.uint64]]) -> npt.NDArray[np.uint64]:
    joined: npt.NDArray[np.uint64] = np.concatenate([np.empty(0, np.uint64), *arrays])
    return joined


def _repeats(texts: PartitionedRows) -> Iterator[Repeats]:
    for number in range(texts.partitions):
        some: Any = texts.read(number)
        yield find_repeats(some["key"], some["place"])


def _planned_texts(
    job: JobConfig, plan: Plan, is_known: IsKnown | None, contents: RowContents | None
) -> Iterator[tuple[hashing.Keys, Places]]:
    """Yield the keys of the texts of each planned unit, and their places.

    Of equal texts of a unit only the first and the last are left: nothing else is needed, and no
    text takes more than two places of a unit.

    Args:
        job: the run.
        plan: its rows.
        is_known: the rows to leave out.
        contents: those of rows with media that were read.
    """
    if job.embedding.media is not None:
        yield from _planned_media(job, plan, contents or RowContents())
        return
    hashes_of = _hashes_of_passages if job.embedding.long_text.cuts else _hashes_of_texts
    for first_row, rows in _batches(job, plan):
        if is_known is not None:
            known = is_known[first_row : first_row + rows.rows].tolist()
            others = [None if k else text for k, text in zip(known, rows.texts, strict=True)]
            rows = dataclasses.replace(rows, texts=others)
        hashes, counts = hashes_of(rows, job.embedding)
        yield from _first_and_last(hashing.keys(hashes), counts, first_row)


def _planned_media(
    job: JobConfig, plan: Plan, contents: RowContents
) -> Iterator[tuple[hashing.Keys, Places]]:
    """Yield the same for rows with media."""
    first_row = 0
    for file_units in plan.work:
        for keys, is_sent in media_row_keys(job, file_units):
            found, counts_of = contents.expand(keys)
            counts = np.zeros(len(is_sent), np.int64)
            counts[is_sent] = counts_of
            yield from _first_and_last(found, counts, first_row)
            first_row += len(is_sent)


def media_row_keys(
    job: JobConfig, file_units: FileUnits
) -> Iterator[tuple[hashing.Keys, npt.NDArray[np.bool_]]]:
    """Yield the keys of some rows with media, and which rows have one; nothing is fetched.

    Raises:
        InputError: the file cannot be read.
    """
    base = media_root(job.media_root, file_units.file.found)
    for rows in _read(file_units, job.columns):
        found = [
            None if offset in rows.bad else hash_without_fetching(parts, job.embedding, base)
            for offset, parts in enumerate(rows.parts or ())
        ]
        hashes = [one for one in found if one is not None]
        yield hashing.keys(hashes), np.array([one is not None for one in found], bool)


def _first_and_last(
    keys: hashing.Keys, counts: npt.NDArray[np.int64], first_row: int
) -> Iterator[tuple[hashing.Keys, Places]]:
    """Yield the keys and places of the first and the last of equal texts of some rows.

    Args:
        keys: of the texts, in order.
        counts: how many each row has.
        first_row: the number of the first row in the plan.
    """
    passages = np.arange(len(keys)) - np.repeat(np.cumsum(counts) - counts, counts)
    planned = first_row + np.repeat(np.arange(len(counts)), counts)
    some = first_and_last(keys)
    if len(some):
        yield keys[some], _places(planned[some], passages[some])


def _long_texts(job: JobConfig, plan: Plan) -> Iterator[tuple[hashing.Keys, Places]]:
    """Yield the keys of whole texts that may be cut, and their places; none is left out."""
    hash_of = sent_hasher(job.embedding)
    for first_row, rows in _batches(job, plan):
        pairs = zip(rows.titles, rows.texts, strict=True)
        found = {
            first_row + offset: hash_of(title, text)
            for offset, (title, text) in enumerate(pairs)
            if text is not None and may_be_cut(job.embedding, title, text)
        }
        if found:
            numbers = np.array(list(found), np.int64)
            yield hashing.keys(list(found.values())), _places(numbers, np.zeros_like(numbers))


def _places(rows: npt.NDArray[np.int64], passages: npt.NDArray[np.int64]) -> Places:
    return (rows.astype(np.uint64) << _PASSAGE_BITS) | passages.astype(np.uint64)


def _batches(job: JobConfig, plan: Plan) -> Iterator[tuple[int, RowBatch]]:
    """Yield the texts of each planned unit, and the number of its first row in the plan."""
    first_row = 0
    for file_units in plan.work:
        for rows in _read(file_units, job.columns):
            yield first_row, rows
            first_row += rows.rows


def _read(file_units: FileUnits, columns: InputColumns) -> Iterator[RowBatch]:
    ranges = [(unit.first_row, unit.rows) for unit in file_units.units]
    file = file_units.file
    if columns.content:
        ranges = windows(file, ranges)
    return read_batches(open_found(file.found), file, *text_only(columns), ranges)


def _hashes_of_texts(
    rows: RowBatch, embedding: EmbeddingConfig
) -> tuple[list[bytes], npt.NDArray[np.int64]]:
    """Return the hashes of the texts of some rows, and how many each row has: 0 or 1."""
    hash_of, bad = sent_hasher(embedding), rows.bad
    is_sent = [
        text is not None and why_blank(text) is None and offset not in bad
        for offset, text in enumerate(rows.texts)
    ]
    pairs = itertools.compress(zip(rows.titles, rows.texts, strict=True), is_sent)
    return [hash_of(title, text or "") for title, text in pairs], np.array(is_sent, np.int64)


def _hashes_of_passages(
    rows: RowBatch, embedding: EmbeddingConfig
) -> tuple[list[bytes], npt.NDArray[np.int64]]:
    """Return the hashes of the passages of some rows, and how many passages each row has."""
    hash_of = sent_hasher(embedding)
    hashes: list[bytes] = []
    counts = np.zeros(rows.rows, np.int64)
    for offset, (title, text) in enumerate(zip(rows.titles, rows.texts, strict=True)):
        if text is not None and why_blank(text) is None and offset not in rows.bad:
            spans = passage_spans(embedding, title, text)
            hashes += (hash_of(title, text[start:end]) for start, end in spans)
            counts[offset] = len(spans)
    return hashes, counts
