"""Vectors that are paid for and not yet committed, so that nobody pays for them twice.

`_run/spill/` has a file a unit that is under way, of one run; it goes with the unit's commit.
`_run/shared/` has the vectors of texts that several units share; its files go when the dataset is
complete.  See spill_file for the format.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from schemas.units import Unit
from transforms.clients.decode import Matrix
from transforms.storage.dataset import SHARED, SPILL, Dataset
from transforms.storage.records import SPILL_SUFFIX, spill_name
from transforms.storage.spill_file import SpillWriter
from transforms.storage.vector_index import VectorIndex


class Spill:
    """What is there already of texts that are still to be committed; one a process.

    Of the units' files those of earlier runs, of the shared ones all that were there at the last
    look.
    """

    def __init__(self, dataset: Dataset, run_id: str) -> None:
        self._folder = None if dataset.is_on_a_store else Path(dataset.path(SPILL))
        self._shared = None if dataset.is_on_a_store else Path(dataset.path(SHARED))
        self._run_id = run_id
        self._index = VectorIndex()
        old = [path for path in _spill_files(self._folder) if run_id not in path.name]
        self._known = set(old)
        self._index.add(old)
        self.look_for_shared()

    def __len__(self) -> int:
        return len(self._index)

    def look_for_shared(self) -> None:
        """Takes in the shared files that came since the last look."""
        new = [path for path in _spill_files(self._shared) if path not in self._known]
        self._known.update(new)
        self._index.add(new)

    def find(self, hashes: Sequence[bytes]) -> Iterator[tuple[int, Matrix, bool | None, bool]]:
        """The texts that have a vector: number in `hashes`, vector (dim,), flag, whether shared."""
        for number, place in enumerate(self._index.find(hashes).tolist()):
            found = self._index.vector(place) if place >= 0 else None
            if found is not None:
                yield number, *found, self._index.path(place).parent == self._shared

    def writer(self, unit: Unit, generation: int = 0) -> SpillWriter:
        """The file for the answers of a unit of this run."""
        name = spill_name(unit, generation, self._run_id)
        return SpillWriter(self._folder / name if self._folder is not None else None)


def shared_writer(dataset: Dataset, run_id: str, name: str) -> SpillWriter:
    """A file of a run for vectors that units share; keeps nothing on an object store."""
    if dataset.is_on_a_store:
        return SpillWriter(None)
    return SpillWriter(Path(dataset.path(SHARED)) / f"{run_id}-{name}{SPILL_SUFFIX}")


def _spill_files(folder: Path | None) -> list[Path]:
    if folder is None or not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if path.suffix == SPILL_SUFFIX)
    return sorted(path for path in found if path.is_file())
