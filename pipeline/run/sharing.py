"""Texts that several units share: found by one look at all texts, before anything is sent."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from bulkembed.pipeline.run.plan import Plan
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.inputs import InputColumns
from bulkembed.schemas.job import Dedupe, JobConfig
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
from bulkembed.transforms.units.contents import why_blank
from bulkembed.transforms.units.shared_texts import text_only

log = logging.getLogger("bulkembed")

COMMITTED = "committed"
"""Names the file of vectors that are copied."""
MAX_BYTES = 2**30
"""Of memory for the search; beyond it texts are compared within units only."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sharing:
    """What the units of a run share: texts to send first, and rows that are committed already."""

    picks: tuple[FilePicks, ...] = ()
    known: tuple[Matches, ...] = ()
    """Vectors that are paid for already, by source."""

    @property
    def texts(self) -> int:
        """Texts whose vectors are kept for the units."""
        picked = sum(file.texts for file in self.picks)
        return picked + sum(map(len, self.known))

    def slices(self, workers: int) -> Iterator[SharedSlice]:
        """The texts to send, in a slice a worker, all of about the same size."""
        pieces = _cut(self.picks, max(1, workers))
        return (SharedSlice(f"shared-{n}", files) for n, files in enumerate(pieces))


def find_sharing(
    dataset: Dataset, job: JobConfig, plan: Plan, state: DatasetState, *, local: bool
) -> Sharing:
    """What the due units share among each other, and with what is committed.

    Nothing where texts are not to be compared over the run, where workers have no disk in common,
    or where the memory would not do.

    Raises:
        InputError, OutputError: a file cannot be read.
    """
    several = plan.units > 1 or job.embedding.long_text.cuts
    several = several or any(one.embedded for one in (*state.records, *state.damaged))
    if job.dedupe is not Dedupe.RUN or not plan.work or not several:
        return Sharing()
    why_not = _why_not(dataset, plan, local=local)
    due = _read_all(plan, job) if why_not is None else None
    if due is None:
        why_not = why_not or f"their passages would take more than {_gib(MAX_BYTES)} of memory"
        log.warning("texts are compared within units only, as by --dedupe unit: %s", why_not)
        return Sharing()
    return _sharing(dataset, job, plan, state, due)


def copy_known_vectors(dataset: Dataset, job: JobConfig, sharing: Sharing) -> None:
    """Copies what is committed to where the units find it, in place of an earlier run's copy.

    Raises:
        OutputError: a part cannot be read, or the disk is full.
    """
    if not sharing.known:
        return
    suffix = f"-{COMMITTED}{KEPT_SUFFIX}"
    dataset.delete(f"{SHARED}/{name}" for name in dataset.names(SHARED) if name.endswith(suffix))
    kept = shared_writer(dataset, job, COMMITTED)
    for block in itertools.chain.from_iterable(matches.read() for matches in sharing.known):
        kept.append(block.hashes, block.vectors, block.truncated)
    kept.close()


def _why_not(dataset: Dataset, plan: Plan, *, local: bool) -> str | None:
    if not local:
        return "the workers have no disk in common"
    if dataset.is_on_a_store:
        return "the output is on an object store, which cannot append"
    needed = plan.planned_rows * hashing.BYTES_PER_TEXT
    if needed > MAX_BYTES:
        return f"{plan.planned_rows:,} rows would take {_gib(needed)} of memory"
    return None


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _DueTexts:
    """The texts of all due rows, in their order."""

    keys: hashing.Keys
    """Shape (texts,)."""
    of_row: npt.NDArray[np.int32]
    """How many texts each row has, shape (rows,)."""


def _read_all(plan: Plan, job: JobConfig) -> _DueTexts | None:
    """Reads all due rows; None where their texts are too many."""
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
    return _DueTexts(np.concatenate(found), of_row)


def _read(file_units: FileUnits, columns: InputColumns) -> Iterator[RowBatch]:
    ranges = [(unit.first_row, unit.rows) for unit in file_units.units]
    file = file_units.file
    return read_batches(open_found(file.found), file, *text_only(columns), ranges)


def _hashes(rows: RowBatch, offset: int, embedding: EmbeddingConfig) -> list[bytes]:
    """Of what is sent for a row; nothing for one that cannot be."""
    title, text = rows.titles[offset], rows.texts[offset]
    if text is None or offset in rows.bad or why_blank(text) is not None:
        return []
    return [
        sent_hash(embedding, title, text[start:end])
        for start, end in passage_spans(embedding, title, text)
    ]


def _parts(plan: Plan, job: JobConfig) -> npt.NDArray[np.int32]:
    """For each due row a number for what is committed together, ascending.

    That is its unit; but one whose texts are cut may be committed in parts, down to a row.
    """
    sizes = [unit.rows for file in plan.work for unit in file.units]
    if job.embedding.long_text.cuts:
        return np.arange(sum(sizes), dtype=np.int32)
    return np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)


def _sharing(
    dataset: Dataset, job: JobConfig, plan: Plan, state: DatasetState, due: _DueTexts
) -> Sharing:
    every, parts = due.keys, _parts(plan, job)
    known = _find_known(_sources(dataset, job, state), every)
    keys = np.unique(np.concatenate([every[:0], *(matches.keys for matches in known)]))
    every[hashing.among(every, keys)] = 0  # Not to be sent at all.
    first = hashing.shared_texts(every, np.repeat(parts, due.of_row))
    sharing = Sharing(tuple(_picks(plan, first, due.of_row)), tuple(known))
    if sharing.texts:
        log.info(
            "%s texts of several units are sent first; %s are committed already",
            f"{len(first):,}",
            f"{len(keys):,}",
        )
    return sharing


def _sources(dataset: Dataset, job: JobConfig, state: DatasetState) -> list[KnownVectors]:
    """Return the sources of vectors that are paid for already, in order of preference.

    If a part of a unit is damaged, its other parts may still be read.
    """
    sources = []
    if any(record.embedded for record in state.records):
        sources.append(CommittedVectors(dataset, state.records))
    if state.damaged:
        sources.append(CommittedVectors(dataset, state.damaged, job.embedding.digest))
    return [*sources]


def _find_known(sources: list[KnownVectors], every: hashing.Keys) -> list[Matches]:
    """Return the vectors that are paid for already among the texts of all due rows."""
    if not sources:
        return []
    distinct = np.unique(every)
    return find_in(sources, distinct[distinct != 0])


def _picks(
    plan: Plan, texts: npt.NDArray[np.int64], of_row: npt.NDArray[np.int32]
) -> Iterator[FilePicks]:
    """The texts of each file, where they are given by their place among those of all due rows."""
    ends = np.cumsum(of_row)
    due = np.searchsorted(ends, texts, side="right")
    passages = texts - (ends - of_row)[due]
    begin = 0
    for file_units in plan.work:
        starts = np.array([unit.first_row for unit in file_units.units], np.int64)
        sizes = [unit.rows for unit in file_units.units]
        ends = begin + np.cumsum(sizes)
        here = (due >= begin) & (due < ends[-1])
        if here.any():
            unit = np.searchsorted(ends, due[here], side="right")
            rows = starts[unit] + due[here] - (ends - sizes)[unit]
            yield FilePicks(file_units.file, rows, passages[here])
        begin = int(ends[-1])


def _cut(picks: tuple[FilePicks, ...], pieces: int) -> Iterator[tuple[FilePicks, ...]]:
    """The texts in so many pieces, in order; those of a file may stand in several."""
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
