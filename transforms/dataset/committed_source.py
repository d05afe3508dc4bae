"""Committed vectors as a source of known vectors, for contents that no plan could look up.

A file at a path or URI has no hash before it is read. So a worker looks it up itself: in the rows
that were committed before its process opened this source, in other datasets, and in the rows that
its own process has committed.
"""

from __future__ import annotations

import dataclasses
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.units import UnitRecord
from bulkembed.transforms.core.hashing import Keys, among
from bulkembed.transforms.dataset.committed_vectors import committed_index, read_known
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.hash_index import Found, HashIndex
from bulkembed.transforms.dataset.known_places import PLACE, KnownPlaces, PlaceSource
from bulkembed.transforms.dataset.known_vectors import VectorBlock


class CommittedSource:
    """The vectors of a dataset and of those that are reused.

    Safe for threads.

    Args:
        dataset: the output.
        job: the run.
    """

    def __init__(self, dataset: Dataset, job: JobConfig) -> None:
        self._dataset = dataset
        self._reused = job.reuse
        self._digest = job.embedding.digest
        self._lock = threading.Lock()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._earlier: list[HashIndex] = []
        self._added: list[UnitRecord] = []
        """Of this process, not indexed yet."""
        self._own: list[tuple[list[UnitRecord], HashIndex]] = []
        """Of this process: each index has more rows than all after it."""

    def add(self, records: Iterable[UnitRecord]) -> None:
        """Note units that this process has committed; `refresh` makes them known."""
        with self._lock:
            self._added += records

    def refresh(self) -> None:
        """Make the rows known that were committed since the last call.

        Raises:
            OutputError: the dataset cannot be listed, or a disk is full.
        """
        with self._lock:
            records, self._added = [one for one in self._added if one.embedded], []
            if not records:
                return
            # Each row is indexed again when there are twice as many, so about log(n) times.
            while self._own and _rows(self._own[-1][0]) <= 2 * _rows(records):
                records = [*self._own.pop()[0], *records]
            self._own.append((records, self._index_of(self._dataset, records)))

    def find(self, wanted: Keys) -> CommittedMatches:
        """Return the wanted contents that are committed; see `KnownVectors`.

        Raises:
            OutputError: the dataset cannot be listed, or a disk is full.
        """
        with self._lock:
            indexes = [*self._opened(), *(index for _, index in self._own)]
            found: list[npt.NDArray[Any]] = []
            missing = wanted
            for number, index in enumerate(indexes):
                places = _places(number, missing, index.find(missing))
                missing = missing[~among(missing, places["key"])]
                found.append(places)
        places = np.concatenate(found)
        places.sort(order=["source", "part", "row"])
        sources = tuple(PlaceSource(index.dataset, index.parts) for index in indexes)
        return CommittedMatches(KnownPlaces(sources, places), len(self._earlier))

    def read(self, wanted: Keys) -> Iterator[VectorBlock]:
        """Yield the vectors of wanted contents; see `KnownVectors`.

        Raises:
            OutputError: as `find`.
        """
        return self.find(wanted).read()

    def _opened(self) -> list[HashIndex]:
        if not self._earlier:
            datasets = [self._dataset, *map(Dataset.open, self._reused)]
            self._earlier = [self._index_of(one, one.state().records) for one in datasets]
        return self._earlier

    def _index_of(self, dataset: Dataset, records: Iterable[UnitRecord]) -> HashIndex:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="bulkembed-")
        return committed_index(dataset, records, self._digest, Path(self._folder.name))

    def close(self) -> None:
        """Delete temporary files."""
        with self._lock:
            self._earlier, self._own = [], []
            if self._folder is not None:
                self._folder.cleanup()


def _rows(records: Iterable[UnitRecord]) -> int:
    return sum(one.unit.rows for one in records)


def _places(number: int, wanted: Keys, found: Found) -> npt.NDArray[Any]:
    places = np.zeros(len(found.wanted), PLACE)
    places["key"] = wanted[found.wanted]
    places["source"], places["part"], places["row"] = number, found.parts, found.rows
    return places


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class CommittedMatches:
    """The wanted contents that are committed."""

    known: KnownPlaces
    earlier: int
    """How many of the sources are of earlier runs: these come first."""

    def __len__(self) -> int:
        return len(self.known)

    @property
    def keys(self) -> Keys:
        """The keys of the contents, ascending and distinct."""
        return np.unique(self.known.places["key"])

    def hashes(self) -> Iterator[bytes]:
        """Yield the hash of each content."""
        for block in self.read():
            yield from block.hashes

    def read(self) -> Iterator[VectorBlock]:
        """Yield the vectors."""
        sources, places = self.known.sources, self.known.places
        end = np.searchsorted(places["source"], self.earlier)
        for block in read_known(KnownPlaces(sources, places[:end])):
            yield dataclasses.replace(block, committed=True)
        yield from read_known(KnownPlaces(sources, places[end:]))
