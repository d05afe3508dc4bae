"""Committed vectors as a source of known vectors, for contents that no plan could look up.

A file at a path or URI has no hash before it is read.  So a worker looks it up itself, in the rows
that were committed before its process opened this source.
"""

from __future__ import annotations

import dataclasses
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bulkembed.schemas.job import JobConfig
from bulkembed.transforms.core.hashing import Keys
from bulkembed.transforms.dataset.committed_vectors import committed_index, read_known
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.hash_index import HashIndex
from bulkembed.transforms.dataset.known_places import PLACE, KnownPlaces, PlaceSource
from bulkembed.transforms.dataset.known_vectors import VectorBlock


class CommittedSource:
    """The vectors of a dataset that are committed when the first content is looked up.

    Safe for threads.

    Args:
        dataset: the output.
        job: the run.
    """

    def __init__(self, dataset: Dataset, job: JobConfig) -> None:
        self._dataset = dataset
        self._digest = job.embedding.digest
        self._lock = threading.Lock()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._index: HashIndex | None = None

    def find(self, wanted: Keys) -> CommittedMatches:
        """Return the wanted contents that are committed; see `KnownVectors`.

        Raises:
            OutputError: the dataset cannot be listed, or a disk is full.
        """
        with self._lock:
            index = self._index or self._opened()
            found = index.find(wanted)
        places = np.zeros(len(found.wanted), PLACE)
        places["key"] = wanted[found.wanted]
        places["part"], places["row"] = found.parts, found.rows
        places.sort(order=["part", "row"])
        return CommittedMatches(
            KnownPlaces((PlaceSource(index.dataset, index.parts),), places), places
        )

    def read(self, wanted: Keys) -> Iterator[VectorBlock]:
        """Yield the vectors of wanted contents; see `KnownVectors`.

        Raises:
            OutputError: as `find`.
        """
        return self.find(wanted).read()

    def _opened(self) -> HashIndex:
        self._folder = tempfile.TemporaryDirectory(prefix="bulkembed-")
        records = self._dataset.state().records
        self._index = committed_index(self._dataset, records, self._digest, Path(self._folder.name))
        return self._index

    def close(self) -> None:
        """Delete temporary files."""
        with self._lock:
            self._index = None
            if self._folder is not None:
                self._folder.cleanup()


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class CommittedMatches:
    """The wanted contents that are committed."""

    known: KnownPlaces
    places: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.places)

    @property
    def keys(self) -> Keys:
        """The keys of the contents, ascending and distinct."""
        return np.unique(self.places["key"])

    def hashes(self) -> Iterator[bytes]:
        """Yield the hash of each content."""
        for block in self.read():
            yield from block.hashes

    def read(self) -> Iterator[VectorBlock]:
        """Yield the vectors."""
        for block in read_known(self.known):
            yield dataclasses.replace(block, committed=True)
