"""Texts that several units share: found by one look at all texts, before anything is sent."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Iterator

import numpy as np

from pipeline.planning import Plan
from schemas.embedding import EmbeddingConfig
from schemas.inputs import InputColumns
from schemas.job import Dedupe, JobConfig
from schemas.units import FilePicks, FileUnits, SharedSlice
from transforms.core import repeats
from transforms.core.hashing import text_hash
from transforms.core.prompts import as_sent
from transforms.engine.shared_texts import text_only
from transforms.engine.text_items import why_blank
from transforms.storage.committed_vectors import PartRows, copy_vectors, find_committed
from transforms.storage.dataset import SHARED, Dataset, State
from transforms.storage.filesystems import open_found
from transforms.storage.records import SPILL_SUFFIX
from transforms.storage.row_reader import read_runs
from transforms.storage.row_run import RowRun
from transforms.storage.spill import shared_writer

log = logging.getLogger("bulkembed")

COMMITTED = "committed"
"""Names the file of vectors that are copied."""
MOST_BYTES = 2**30
"""Of memory for the search; beyond it texts are compared within units only."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sharing:
    """What the units of a run share: rows to send first, and rows that are committed already."""

    picks: tuple[FilePicks, ...] = ()
    committed: tuple[PartRows, ...] = ()

    @property
    def texts(self) -> int:
        """Texts whose vectors are kept for the units."""
        picked = sum(len(file.rows) for file in self.picks)
        return picked + sum(len(part.rows) for part in self.committed)

    def slices(self, workers: int) -> Iterator[SharedSlice]:
        """The rows to send, in a slice a worker, all of about the same size."""
        pieces = _cut(self.picks, max(1, workers))
        return (SharedSlice(f"shared-{n}", files) for n, files in enumerate(pieces))


def find_sharing(
    dataset: Dataset, job: JobConfig, plan: Plan, state: State, *, local: bool
) -> Sharing:
    """What the due units share among each other, and with what is committed.

    Nothing where texts are not to be compared over the run, where workers have no disk in common,
    or where the memory would not do.

    Raises:
        InputError, OutputError: a file cannot be read.
    """
    several = plan.units > 1 or any(record.embedded for record in state.records)
    if job.dedupe is not Dedupe.RUN or not plan.work or not several:
        return Sharing()
    why_not = _why_not(dataset, plan, local=local)
    if why_not is not None:
        log.warning("texts are compared within units only, as by --dedupe unit: %s", why_not)
        return Sharing()
    every = np.zeros(plan.due_rows, np.uint64)
    row = 0
    for file_units in plan.work:
        for found in _read(file_units, job.columns, job.embedding):
            every[row : row + len(found)] = found
            row += len(found)
    return _sharing(dataset, plan, state, every)


def keep_committed(dataset: Dataset, job: JobConfig, sharing: Sharing) -> None:
    """Copies what is committed to where the units find it, in place of an earlier run's copy.

    Raises:
        OutputError: a part cannot be read, or the disk is full.
    """
    if not sharing.committed:
        return
    suffix = f"-{COMMITTED}{SPILL_SUFFIX}"
    dataset.delete(f"{SHARED}/{name}" for name in dataset.names(SHARED) if name.endswith(suffix))
    kept = shared_writer(dataset, job.run_id, COMMITTED)
    copy_vectors(dataset, sharing.committed, kept)
    kept.close()


def _why_not(dataset: Dataset, plan: Plan, *, local: bool) -> str | None:
    if not local:
        return "the workers have no disk in common"
    if dataset.is_on_a_store:
        return "the output is on an object store, which cannot append"
    needed = plan.due_rows * repeats.BYTES_A_ROW
    if needed > MOST_BYTES:
        return f"{plan.due_rows:,} rows would take {needed / 2**30:.1f} GiB of memory"
    return None


def _read(
    file_units: FileUnits, columns: InputColumns, embedding: EmbeddingConfig
) -> Iterator[repeats.Keys]:
    runs = [(unit.first_row, unit.rows) for unit in file_units.units]
    file = file_units.file
    for rows in read_runs(open_found(file.found), file, *text_only(columns), runs):
        yield repeats.keys([*_hashes(rows, embedding)])


def _hashes(rows: RowRun, embedding: EmbeddingConfig) -> Iterator[bytes]:
    for offset, (title, text) in enumerate(zip(rows.titles, rows.texts, strict=True)):
        if text is None or offset in rows.bad or why_blank(text) is not None:
            yield repeats.NO_TEXT
        else:
            yield text_hash(*as_sent(embedding, title, text))


def _sharing(dataset: Dataset, plan: Plan, state: State, every: repeats.Keys) -> Sharing:
    committed, keys = _committed(dataset, state, every)
    every[repeats.among(every, keys)] = 0  # Not to be sent at all.
    sizes = [unit.rows for file in plan.work for unit in file.units]
    units = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    first = repeats.shared_rows(every, units)
    sharing = Sharing(tuple(_picks(plan, first)), tuple(committed))
    if sharing.texts:
        log.info(
            "%s texts of several units are sent first; %s are committed already",
            f"{len(first):,}",
            f"{len(keys):,}",
        )
    return sharing


def _committed(
    dataset: Dataset, state: State, every: repeats.Keys
) -> tuple[list[PartRows], repeats.Keys]:
    """Committed rows with texts that are due again, and the keys of these texts."""
    embedded = [record for record in state.records if record.embedded]
    if not embedded:
        return [], every[:0]
    distinct = np.unique(every)
    return find_committed(dataset, embedded, distinct[distinct != 0])


def _picks(plan: Plan, due: np.ndarray) -> Iterator[FilePicks]:
    """The rows of each file, where they are given by their place among all due rows."""
    begin = 0
    for file_units in plan.work:
        starts = np.array([unit.first_row for unit in file_units.units], np.int64)
        sizes = [unit.rows for unit in file_units.units]
        ends = begin + np.cumsum(sizes)
        mine = due[(due >= begin) & (due < ends[-1])]
        if len(mine):
            unit = np.searchsorted(ends, mine, side="right")
            yield FilePicks(file_units.file, starts[unit] + mine - (ends - sizes)[unit])
        begin = int(ends[-1])


def _cut(picks: tuple[FilePicks, ...], pieces: int) -> Iterator[tuple[FilePicks, ...]]:
    """The rows in so many pieces, in order; the rows of a file may stand in several."""
    total = sum(len(file.rows) for file in picks)
    bounds = [total * n // pieces for n in range(pieces + 1)]
    for low, high in itertools.pairwise(bounds):
        begin, piece = 0, []
        for file in picks:
            rows = file.rows[max(0, low - begin) : max(0, high - begin)]
            if len(rows):
                piece.append(FilePicks(file.file, rows))
            begin += len(file.rows)
        if piece:
            yield tuple(piece)
