"""Texts that units share with each other, and known vectors, found before anything is sent."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bulkembed.pipeline.logs import log
from bulkembed.pipeline.run.plan import Plan
from bulkembed.pipeline.run.reuse import ReusedDataset
from bulkembed.pipeline.run.text_search import StopCheck, search_texts
from bulkembed.schemas.job import Dedupe, JobConfig
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.units import FilePicks, SharedSlice
from bulkembed.transforms.core.hashing import Keys
from bulkembed.transforms.dataset.atomic_files import output_error
from bulkembed.transforms.dataset.batch_answers import answer_parts
from bulkembed.transforms.dataset.committed_vectors import committed_index, read_known
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.hash_index import HashIndex
from bulkembed.transforms.dataset.kept_answers import shared_writer
from bulkembed.transforms.dataset.known_places import NO_PLACES, KnownPlaces
from bulkembed.transforms.dataset.layout import RUN
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.dataset.row_contents import RowContents

_BLOCKS_PER_FILE = 4
MIN_SLICE_TEXTS = 100
"""As many texts as a full request has."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sharing:
    """Texts that units share: those to send first, and those with a known vector."""

    picks: tuple[FilePicks, ...] = ()
    known: KnownPlaces = NO_PLACES
    """Vectors that earlier runs paid for."""
    rescued: KnownPlaces = NO_PLACES
    """Vectors in parts of damaged units, which the run deletes before it begins."""
    settled: Keys = dataclasses.field(default_factory=lambda: np.empty(0, np.uint64))
    """The keys of the settled texts that the units want; see `find_sharing`."""

    @property
    def texts(self) -> int:
        """Number of texts whose vectors are kept for the units."""
        return sum(file.texts for file in self.picks) + len(self.rescued)

    @property
    def known_keys(self) -> Keys:
        """The keys of the texts that have a known vector, ascending and distinct."""
        return np.unique(np.concatenate([one.places["key"] for one in (self.known, self.rescued)]))

    def slices(self, most: int) -> Iterator[SharedSlice]:
        """Yield the texts to send, in so many slices of about equal size; in fewer if few.

        Slices of several searches of a run have different names.
        """
        texts = sum(file.texts for file in self.picks)
        pieces = _cut(self.picks, max(1, min(most, texts // MIN_SLICE_TEXTS)))
        search = secrets.token_hex(4)
        return (SharedSlice(f"shared-{n}-{search}", files) for n, files in enumerate(pieces))


def find_sharing(
    dataset: Dataset,
    job: JobConfig,
    plan: Plan,
    state: DatasetState,
    scratch: Path,
    reused: Sequence[ReusedDataset] = (),
    *,
    keep: bool,
    settled: Keys | None = None,
    contents: RowContents | None = None,
    check: StopCheck = lambda: None,
) -> Sharing:
    """Find the texts that the planned units share with each other, with committed units and others.

    Finds nothing without `--dedupe run`.

    Args:
        dataset: the dataset.
        job: the run.
        plan: its rows.
        state: of the dataset.
        scratch: a folder on a local disk, which must exist as long as the result.
        reused: other datasets.
        keep: whether this process has the dataset's lock, and may write to the dataset.
        settled: the keys of texts that need no vector, ascending and distinct.
        contents: those of rows with media that were read.
        check: as for `search_texts`.

    Raises:
        InputError, OutputError: a file cannot be read, or a disk is full.
    """
    several = plan.units > 1 or job.embedding.long_text.cuts
    several = several or any(one.embedded for one in (*state.records, *state.damaged))
    several = several or bool(reused) or (settled is not None and len(settled) > 0)
    if job.dedupe is not Dedupe.RUN or not plan.work or not several:
        return Sharing()
    sources = known_sources(dataset, job, state, scratch, reused, keep=keep)
    folder = search_folder(dataset, scratch, keep=keep)
    found = search_texts(
        job, plan, sources, folder, settled=settled, contents=contents, check=check
    )
    if len(found.rows) or found.known_texts:
        log.info(
            "deduplication: %s to embed up front, %s reused from earlier runs",
            number_of(len(found.rows), "repeated text"),
            f"{found.known_texts:,}",
        )
    picks = tuple(picks_of(plan, found.rows, found.passages))
    places = found.known.places
    damaged = int(np.searchsorted(places["source"], 1)) if state.damaged else 0
    rescued = dataclasses.replace(found.known, places=places[:damaged])
    own = dataclasses.replace(found.known, places=places[damaged:])
    return Sharing(picks, own, rescued, found.settled)


def keep_vectors(dataset: Dataset, job: JobConfig, known: KnownPlaces, name: str) -> None:
    """Keep known vectors as shared answers, in files with a name in theirs; each vector once.

    Raises:
        OutputError: the disk is full.
    """
    blocks = read_known(known)
    while group := list(itertools.islice(blocks, _BLOCKS_PER_FILE)):
        with contextlib.closing(shared_writer(dataset, job, name)) as writer:
            for block in group:
                writer.append(block.hashes, block.vectors, block.truncated)


def search_folder(dataset: Dataset, scratch: Path, *, keep: bool) -> Path:
    """Return where a search writes: beside the dataset, because /tmp may be in memory."""
    if not keep or dataset.is_on_a_store:
        return scratch
    folder = Path(dataset.path(RUN))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(str(folder), error) from error
    return folder


def known_sources(
    dataset: Dataset,
    job: JobConfig,
    state: DatasetState,
    scratch: Path,
    reused: Sequence[ReusedDataset],
    *,
    keep: bool,
) -> list[HashIndex]:
    """Return the sources of known vectors, in order of preference, damaged units first.

    If a part of a unit is damaged, its other parts may still be read.

    Args:
        dataset: as for `find_sharing`, as are all others.
        job: the run.
        state: of the dataset.
        scratch: a folder.
        reused: other datasets.
        keep: whether the dataset may be written.
    """
    digest = job.embedding.digest
    sources = []
    if state.damaged:
        sources.append(committed_index(dataset, state.damaged, digest, scratch, trusted=False))
    if any(record.embedded for record in state.records):
        sources.append(committed_index(dataset, state.records, digest, scratch, keep=keep))
    answers = answer_parts(dataset)
    if answers:
        # A dataset that was overwritten may have answers of other settings.
        index = HashIndex(dataset, answers, digest, scratch, keep=False, trusted=False)
        sources.append(index)
    others = (committed_index(other.dataset, other.records, digest, scratch) for other in reused)
    return [*sources, *others]


def picks_of(
    plan: Plan, rows: npt.NDArray[np.int64], passages: npt.NDArray[np.int64]
) -> Iterator[FilePicks]:
    """Yield the texts of each file, given as planned rows and their passages, ascending."""
    begin = 0
    for file_units in plan.work:
        starts = np.array([unit.first_row for unit in file_units.units], np.int64)
        sizes = np.array([unit.rows for unit in file_units.units], np.int64)
        ends = begin + np.cumsum(sizes)
        low, high = np.searchsorted(rows, [begin, ends[-1]])
        if low < high:
            here = rows[low:high]
            unit = np.searchsorted(ends, here, side="right")
            file_rows = starts[unit] + here - (ends - sizes)[unit]
            yield FilePicks(file_units.file, file_rows, passages[low:high])
        begin = int(ends[-1])


def _cut(picks: tuple[FilePicks, ...], pieces: int) -> Iterator[tuple[FilePicks, ...]]:
    """Yield the texts in that many pieces, in order; a file may be in several pieces.

    Each file of `picks` has texts.
    """
    ends = np.cumsum([file.texts for file in picks])
    total = int(ends[-1]) if len(ends) else 0
    bounds = [total * n // pieces for n in range(pieces + 1)]
    for low, high in itertools.pairwise(bounds):
        if low == high:
            continue
        first, last = np.searchsorted(ends, [low, high - 1], side="right").tolist()
        begin = int(ends[first]) - picks[first].texts
        piece = []
        for file in picks[first : last + 1]:
            piece.append(file.part(max(0, low - begin), high - begin))
            begin += file.texts
        yield tuple(piece)
