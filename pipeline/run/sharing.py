"""Texts that occur in several units, found by reading all texts before anything is sent."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from bulkembed.pipeline.logs import log
from bulkembed.pipeline.run.plan import Plan
from bulkembed.pipeline.run.reuse import ReusedDataset
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.inputs import InputColumns
from bulkembed.schemas.job import Dedupe, JobConfig
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.units import FilePicks, FileUnits, SharedSlice
from bulkembed.transforms.core import hashing
from bulkembed.transforms.core.content import sent_hash
from bulkembed.transforms.core.passages import passage_spans
from bulkembed.transforms.dataset.committed_vectors import CommittedVectors
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.kept_answers import shared_writer
from bulkembed.transforms.dataset.known_vectors import KnownVectors, Matches, find_in
from bulkembed.transforms.dataset.layout import KEPT_SUFFIX, SHARED
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import read_batches
from bulkembed.transforms.inputs.rows import RowBatch
from bulkembed.transforms.units.distinct_contents import why_blank
from bulkembed.transforms.units.shared_texts import text_only

COMMITTED = "committed"
"""Name of the file of copied vectors."""
_BLOCKS_PER_FILE = 4
MIN_SLICE_TEXTS = 100
"""As many texts as a full request has."""
MAX_BYTES = 2**30
"""Maximum memory of the search; with more texts, they are compared within units only."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sharing:
    """Texts that units share: those to send first, and those with a known vector."""

    picks: tuple[FilePicks, ...] = ()
    known: tuple[Matches, ...] = ()
    """Vectors that earlier runs paid for, by source."""

    @property
    def texts(self) -> int:
        """Number of texts whose vectors are kept for the units."""
        picked = sum(file.texts for file in self.picks)
        return picked + sum(map(len, self.known))

    def slices(self, most: int) -> Iterator[SharedSlice]:
        """Yield the texts to send, in so many slices of about equal size; in fewer if few."""
        texts = sum(file.texts for file in self.picks)
        pieces = _cut(self.picks, max(1, min(most, texts // MIN_SLICE_TEXTS)))
        return (SharedSlice(f"shared-{n}", files) for n, files in enumerate(pieces))


def find_sharing(
    dataset: Dataset,
    job: JobConfig,
    plan: Plan,
    state: DatasetState,
    reused: Sequence[ReusedDataset] = (),
) -> Sharing:
    """Find the texts that the planned units share with each other, with committed units and others.

    Finds nothing without `--dedupe run`, or if the search would need too much memory.

    Raises:
        InputError, OutputError: a file cannot be read.
    """
    several = plan.units > 1 or job.embedding.long_text.cuts
    several = several or any(one.embedded for one in (*state.records, *state.damaged))
    several = several or bool(reused)
    if job.dedupe is not Dedupe.RUN or not plan.work or not several:
        return Sharing()
    why_not = _why_not(plan)
    texts = _read_all(plan, job) if why_not is None else None
    if texts is None:
        why_not = why_not or f"their passages would need more than {_gib(MAX_BYTES)} of memory"
        log.warning("deduplicating within units only, as with --dedupe unit: %s", why_not)
        return Sharing()
    return _sharing(job, plan, _sources(dataset, job, state, reused), texts)


def copy_known_vectors(dataset: Dataset, job: JobConfig, sharing: Sharing) -> None:
    """Copy known vectors to where the units find them, replacing the copy of an earlier run.

    Raises:
        OutputError: a part cannot be read, or the disk is full.
    """
    if not sharing.known:
        return
    names = [name for name in dataset.names(SHARED) if name.endswith(KEPT_SUFFIX)]
    dataset.delete(f"{SHARED}/{name}" for name in names if f"-{COMMITTED}" in name)
    blocks = itertools.chain.from_iterable(matches.read() for matches in sharing.known)
    while group := list(itertools.islice(blocks, _BLOCKS_PER_FILE)):
        writer = shared_writer(dataset, job, COMMITTED)
        for block in group:
            writer.append(block.hashes, block.vectors, block.truncated)
        writer.close()


def _why_not(plan: Plan) -> str | None:
    needed = plan.planned_rows * hashing.BYTES_PER_TEXT
    if needed > MAX_BYTES:
        return f"{number_of(plan.planned_rows, 'row')} would need {_gib(needed)} of memory"
    return None


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _PlannedTexts:
    """The texts of all planned rows, in their order."""

    keys: hashing.Keys
    """Shape (texts,)."""
    of_row: npt.NDArray[np.int32]
    """Number of texts of each row, shape (rows,)."""


def _read_all(plan: Plan, job: JobConfig) -> _PlannedTexts | None:
    """Read all planned rows; None if they have too many texts."""
    found, texts = [], 0
    of_row = np.zeros(plan.planned_rows, np.int32)
    row = 0
    for file_units in plan.work:
        for rows in _read(file_units, job.columns):
            hashes = [_hashes(rows, offset, job.embedding) for offset in range(rows.rows)]
            of_row[row : row + rows.rows] = [*map(len, hashes)]
            found.append(hashing.keys([*itertools.chain.from_iterable(hashes)]))
            row += rows.rows
            texts += len(found[-1])
            if texts * hashing.BYTES_PER_TEXT > MAX_BYTES:
                return None
    return _PlannedTexts(np.concatenate(found), of_row)


def _read(file_units: FileUnits, columns: InputColumns) -> Iterator[RowBatch]:
    ranges = [(unit.first_row, unit.rows) for unit in file_units.units]
    file = file_units.file
    return read_batches(open_found(file.found), file, *text_only(columns), ranges)


def _hashes(rows: RowBatch, offset: int, embedding: EmbeddingConfig) -> list[bytes]:
    """Return the hashes of the texts sent for a row; none for a row that cannot be sent."""
    title, text = rows.titles[offset], rows.texts[offset]
    if text is None or offset in rows.bad or why_blank(text) is not None:
        return []
    return [
        sent_hash(embedding, title, text[start:end])
        for start, end in passage_spans(embedding, title, text)
    ]


def _parts(plan: Plan, job: JobConfig) -> npt.NDArray[np.int32]:
    """Return a number for each planned row that rows committed together share, ascending.

    It is the number of the unit. If texts are cut into passages, a unit may be committed in parts
    down to a row, so each row has its own number.
    """
    sizes = [unit.rows for file in plan.work for unit in file.units]
    if job.embedding.long_text.cuts:
        return np.arange(sum(sizes), dtype=np.int32)
    return np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)


def _sharing(
    job: JobConfig, plan: Plan, sources: list[KnownVectors], texts: _PlannedTexts
) -> Sharing:
    every, parts = texts.keys, _parts(plan, job)
    known = _find_known(sources, every)
    keys = np.unique(np.concatenate([every[:0], *(matches.keys for matches in known)]))
    every[hashing.among(every, keys)] = 0  # Known vectors are not sent.
    first = hashing.shared_texts(every, np.repeat(parts, texts.of_row))
    sharing = Sharing(tuple(_picks(plan, first, texts.of_row)), tuple(known))
    if sharing.texts:
        log.info(
            "deduplication: %s to embed up front, %s reused from earlier runs",
            number_of(len(first), "repeated text"),
            f"{len(keys):,}",
        )
    return sharing


def _sources(
    dataset: Dataset, job: JobConfig, state: DatasetState, reused: Sequence[ReusedDataset]
) -> list[KnownVectors]:
    """Return the sources of known vectors, in order of preference.

    If a part of a unit is damaged, its other parts may still be read.
    """
    sources = []
    if any(record.embedded for record in state.records):
        sources.append(CommittedVectors(dataset, state.records))
    if state.damaged:
        sources.append(CommittedVectors(dataset, state.damaged, job.embedding.digest))
    return [*sources, *(CommittedVectors(other.dataset, other.records) for other in reused)]


def _find_known(sources: list[KnownVectors], every: hashing.Keys) -> list[Matches]:
    """Return the known vectors of the texts of all planned rows."""
    if not sources:
        return []
    distinct = np.unique(every)
    return find_in(sources, distinct[distinct != 0])


def _picks(
    plan: Plan, texts: npt.NDArray[np.int64], of_row: npt.NDArray[np.int32]
) -> Iterator[FilePicks]:
    """Yield the texts of each file, given as indices into the texts of all planned rows."""
    ends = np.cumsum(of_row)
    rows = np.searchsorted(ends, texts, side="right")
    passages = texts - (ends - of_row)[rows]
    begin = 0
    for file_units in plan.work:
        starts = np.array([unit.first_row for unit in file_units.units], np.int64)
        sizes = [unit.rows for unit in file_units.units]
        ends = begin + np.cumsum(sizes)
        here = (rows >= begin) & (rows < ends[-1])
        if here.any():
            unit = np.searchsorted(ends, rows[here], side="right")
            file_rows = starts[unit] + rows[here] - (ends - sizes)[unit]
            yield FilePicks(file_units.file, file_rows, passages[here])
        begin = int(ends[-1])


def _cut(picks: tuple[FilePicks, ...], pieces: int) -> Iterator[tuple[FilePicks, ...]]:
    """Yield the texts in that many pieces, in order; a file may be in several pieces."""
    total = sum(file.texts for file in picks)
    bounds = [total * n // pieces for n in range(pieces + 1)]
    for low, high in itertools.pairwise(bounds):
        begin, piece = 0, []
        for file in picks:
            part = file.part(max(0, low - begin), max(0, high - begin))
            if part.texts:
                piece.append(part)
            begin += file.texts
        if piece:
            yield tuple(piece)
