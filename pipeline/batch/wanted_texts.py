"""The texts for which batch jobs are needed, and the units for which all vectors are known."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bulkembed.pipeline.run.plan import Plan
from bulkembed.pipeline.run.reuse import ReusedDataset
from bulkembed.pipeline.run.sharing import Sharing, known_sources, picks_of, search_folder
from bulkembed.pipeline.run.text_search import search_texts
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.units import FilePicks
from bulkembed.transforms.core.hashing import Keys, among
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.hash_index import HashIndex
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.dataset.row_contents import RowContents


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class WantedTexts:
    """Single texts of input files, in order."""

    files: tuple[FilePicks, ...] = ()
    keys: Keys = dataclasses.field(default_factory=lambda: np.empty(0, np.uint64))
    """The key of each text, (n,)."""

    def __len__(self) -> int:
        return len(self.keys)

    def where(self, chosen: npt.NDArray[np.bool_]) -> WantedTexts:
        """Return some of the texts; `chosen` has an element for each of them, (n,)."""
        ends = np.cumsum([file.texts for file in self.files])
        masks = np.split(chosen, ends[:-1]) if self.files else []
        files = (
            FilePicks(one.file, one.rows[mask], one.passages[mask])
            for one, mask in zip(self.files, masks, strict=True)
        )
        return WantedTexts(tuple(one for one in files if one.texts), self.keys[chosen])

    def part(self, start: int, end: int) -> WantedTexts:
        """Return the texts from one position to another."""
        at = np.arange(len(self))
        return self.where((at >= start) & (at < end))

    def without(self, skip: Keys) -> WantedTexts:
        """Return the texts whose keys are not among `skip`, which are ascending and distinct."""
        return self.where(~among(self.keys, skip))


def joined(texts: Sequence[WantedTexts]) -> WantedTexts:
    """Return several lists as one, in their order."""
    files = tuple(file for one in texts for file in one.files)
    return WantedTexts(files, np.concatenate([WantedTexts().keys, *(one.keys for one in texts)]))


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class PlanWindow:
    """Consecutive units of a plan, and what is known about their texts."""

    plan: Plan
    sharing: Sharing
    """The known vectors that they want."""
    waiting: npt.NDArray[np.bool_]
    """Which units want a text that no source has; (units,)."""
    missing: WantedTexts
    """The texts that no source has, each once, in order."""
    sources: Sequence[HashIndex] = ()
    """The indexes that were searched."""
    settled: Keys = dataclasses.field(default_factory=lambda: np.empty(0, np.uint64))
    """As for `find_texts`."""

    def knows(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """Return which texts have a known vector, or need none, by their keys; (n,)."""
        distinct, place = np.unique(keys, return_inverse=True)
        known = among(distinct, self.settled)
        for source in self.sources:
            known[source.find(distinct).wanted] = True
        return known[place]

    def ready(self) -> tuple[Plan, Sharing]:
        """Return the units that want no missing text, and their known vectors."""
        chosen = ~self.waiting
        known = self.sharing.known
        places = known.places[chosen[known.places["unit"]]]
        places["unit"] = (np.cumsum(chosen) - 1)[places["unit"]]
        own = dataclasses.replace(known, places=places)
        return _some_units(self.plan, chosen), Sharing(known=own)


def windows(plan: Plan, rows: int) -> Iterator[Plan]:
    """Yield the units of a plan in order, in plans of at most so many rows, or of one unit."""
    work, size = [], 0
    for file in plan.work:
        start = 0
        for number, unit in enumerate(file.units):
            if size and size + unit.rows > rows:
                if number > start:
                    work.append(file.part(start, number))
                yield dataclasses.replace(plan, work=tuple(work))
                work, size, start = [], 0, number
            size += unit.rows
        work.append(file.part(start, len(file.units)))
    if work:
        yield dataclasses.replace(plan, work=tuple(work))


def find_texts(
    dataset: Dataset,
    job: JobConfig,
    plan: Plan,
    state: DatasetState,
    scratch: Path,
    reused: Sequence[ReusedDataset],
    settled: Keys,
    contents: RowContents | None = None,
) -> PlanWindow:
    """Search the texts of the units of a plan in all sources of known vectors.

    Args:
        dataset: the dataset; this process holds it.
        job: the run.
        plan: the units.
        state: of the dataset.
        scratch: a folder on a local disk, which must exist as long as the result.
        reused: other datasets.
        settled: the keys of texts that were rejected, or whose answers units find by themselves;
            ascending and distinct.
        contents: those of rows with media that were read.

    Raises:
        InputError, OutputError: a file cannot be read, or a disk is full.
    """
    sources = known_sources(dataset, job, state, scratch, reused, keep=True)
    folder = search_folder(dataset, scratch, keep=True)
    found = search_texts(job, plan, sources, folder, every=True, settled=settled, contents=contents)
    missing = WantedTexts(tuple(picks_of(plan, found.rows, found.passages)), found.keys)
    return PlanWindow(plan, Sharing(known=found.known), found.waiting, missing, sources, settled)


def _some_units(plan: Plan, chosen: npt.NDArray[np.bool_]) -> Plan:
    """Return a plan of the chosen units; `chosen` has an element for each unit, (n,)."""
    numbers = itertools.count()
    work = []
    for file in plan.work:
        own = [at for at in range(len(file.units)) if chosen[next(numbers)]]
        if own:
            units = tuple(file.units[at] for at in own)
            retried = tuple(file.retry_of[at] for at in own) if file.retry_of else ()
            work.append(dataclasses.replace(file, units=units, retry_of=retried))
    return dataclasses.replace(plan, work=tuple(work))
