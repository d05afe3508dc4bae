"""Vectors that are paid for and not yet committed, so that nobody pays for them twice.

`_run/spill/` has a file for each unit of a run that is under way; it goes with the unit's commit.
`_run/shared/` has the vectors of texts that several units share; its files go when the dataset is
complete.  Each says of which settings its vectors are; see spill_file for the format.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from schemas.job import JobConfig
from schemas.units import Unit
from transforms.clients.decode import Matrix
from transforms.storage.dataset import SHARED, SPILL, Dataset
from transforms.storage.records import SPILL_SUFFIX, spill_name
from transforms.storage.spill_file import Entries, SpillWriter, read_entries
from transforms.storage.vector_index import VectorIndex


class Spill:
    """The vectors that are there already of texts that are still to be committed; one a process.

    Of the units' files those of earlier runs, of the shared ones all that were there at the last
    look.  Safe for threads.
    """

    def __init__(self, dataset: Dataset, job: JobConfig) -> None:
        self._dataset = dataset
        self._job = job
        self._lock = threading.Lock()
        self._known: set[Path] = set()
        self._index = VectorIndex()
        self._add(path for path in _files(dataset, SPILL) if job.run_id not in path.name)
        self.look_for_shared()

    def __len__(self) -> int:
        return len(self._index)

    def look_for_shared(self) -> None:
        """Take in the shared files that came since the last look."""
        self._add(_files(self._dataset, SHARED))

    def _add(self, paths: Iterator[Path]) -> None:
        with self._lock:
            new = [path for path in paths if path not in self._known]
            self._known.update(new)
            job = self._job
            self._index = self._index.with_files(
                (path, entries(path, job.digest, job.unstamped_run)) for path in new
            )

    def find(self, hashes: Sequence[bytes]) -> Iterator[tuple[int, Matrix, bool | None, bool]]:
        """Yield the texts that have a vector.

        Each as its number in `hashes`, the vector (dim,), its flag, and whether it is shared.
        """
        index = self._index  # Another thread may replace it meanwhile.
        for number, place in enumerate(index.find(hashes).tolist()):
            found = index.vector(place) if place >= 0 else None
            if found is not None:
                yield number, *found, index.path(place).parent.name == _SHARED_FOLDER

    def writer(self, unit: Unit, generation: int = 0) -> SpillWriter:
        """Return the file for the answers of a unit of this run."""
        job = self._job
        return _writer(self._dataset, job, SPILL, spill_name(unit, generation, job.run_id))


def shared_writer(dataset: Dataset, job: JobConfig, name: str) -> SpillWriter:
    """Return a file of a run for vectors that units share; it keeps nothing on an object store."""
    return _writer(dataset, job, SHARED, f"{job.run_id}-{name}{SPILL_SUFFIX}")


def _writer(dataset: Dataset, job: JobConfig, folder: str, name: str) -> SpillWriter:
    path = None if dataset.is_on_a_store else Path(dataset.path(folder, name))
    return SpillWriter(path, job.digest)


def holds_answers(dataset: Dataset, digest: str, unstamped_run: str | None) -> bool:
    """Return whether any answer that was made with some settings is kept; see `entries`."""
    return any(
        any(True for _ in entries(path, digest, unstamped_run))
        for folder in (SPILL, SHARED)
        for path in _files(dataset, folder)
    )


def of_other_settings(dataset: Dataset, job: JobConfig) -> list[str]:
    """Return the names of kept files that have no answer made with a job's settings."""
    return [
        f"{folder}/{path.name}"
        for folder in (SPILL, SHARED)
        for path in _files(dataset, folder)
        if not any(True for _ in entries(path, job.digest, job.unstamped_run))
    ]


def entries(path: Path, digest: str, unstamped_run: str | None) -> Iterator[Entries]:
    """Yield the blocks of a kept file that were made with the settings of a digest.

    Those of an older version do not say it.  Shared ones count only if they are of the run that
    pinned the settings last: that version let a run with other settings follow one that had left
    nothing but shared answers.  As long as it had answers of a unit, it did not.

    Args:
        path: the file.
        digest: of the settings.
        unstamped_run: the last run of that version; None: none has written to this dataset.
    """
    unstamped = unstamped_run is not None and (
        path.parent.name != _SHARED_FOLDER or path.name.startswith(f"{unstamped_run}-")
    )
    with contextlib.suppress(FileNotFoundError):  # Its unit was committed meanwhile.
        yield from read_entries(path, digest, unstamped=unstamped)


_SHARED_FOLDER = SHARED.rpartition("/")[2]


def _files(dataset: Dataset, folder: str) -> Iterator[Path]:
    """Yield the kept files of a folder, sorted; none on an object store."""
    path = Path(dataset.path(folder))
    if not dataset.is_on_a_store and path.is_dir():
        found = (one for one in path.iterdir() if one.suffix == SPILL_SUFFIX)
        yield from sorted(one for one in found if one.is_file())
