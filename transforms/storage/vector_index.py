"""Vectors in spill files, found by text hash: arrays, 27 bytes a text, off the Python heap."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from transforms.clients.decode import Matrix
from transforms.storage.spill_file import FLAGS, HASH_TYPE, Entries

Places = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class VectorIndex:
    """Where the vectors of texts are.  A place is a row of the index, ascending by hash.

    An index never changes, so that threads can share it: a place means the same in all of them.
    """

    names: npt.NDArray[np.bytes_] = dataclasses.field(
        default_factory=lambda: np.empty(0, HASH_TYPE)
    )
    offsets: npt.NDArray[np.uint64] = dataclasses.field(
        default_factory=lambda: np.empty(0, np.uint64)
    )
    files: npt.NDArray[np.uint16] = dataclasses.field(
        default_factory=lambda: np.empty(0, np.uint16)
    )
    flags: npt.NDArray[np.uint8] = dataclasses.field(default_factory=lambda: np.empty(0, np.uint8))
    paths: tuple[tuple[Path, int], ...] = ()
    """Each file, and the dim of its vectors."""

    def __len__(self) -> int:
        return len(self.names)

    def with_files(self, files: Iterable[tuple[Path, Iterable[Entries]]]) -> VectorIndex:
        """Return an index of more files; a text that is there already keeps its place."""
        names, offsets, numbers, flags = (
            [self.names],
            [self.offsets],
            [self.files],
            [self.flags],
        )
        paths = list(self.paths)
        for path, found in files:
            blocks = list(found)
            if not blocks:
                continue
            number = len(paths)
            paths.append((path, blocks[0].dim))
            for block in blocks:
                names.append(block.hashes)
                offsets.append(block.offsets)
                numbers.append(np.full(len(block.hashes), number, np.uint16))
                flags.append(block.flags)
        if len(names) == 1:
            return self
        every, first = np.unique(np.concatenate(names), return_index=True)
        return VectorIndex(
            every,
            np.concatenate(offsets)[first],
            np.concatenate(numbers)[first],
            np.concatenate(flags)[first],
            tuple(paths),
        )

    def find(self, hashes: Sequence[bytes]) -> Places:
        """The places of texts, -1 where there is none; one a hash, in their order."""
        if not len(self) or not hashes:
            return np.full(len(hashes), -1, np.int64)
        wanted = np.frombuffer(b"".join(hashes), HASH_TYPE)
        at = np.searchsorted(self.names, wanted)
        at[at == len(self)] = 0
        places: Places = np.where(self.names[at] == wanted, at, -1)
        return places

    def vector(self, place: int) -> tuple[Matrix, bool | None] | None:
        """The vector (dim,) at a place and its flag; None where it cannot be read any more."""
        path, dim = self.paths[self.files[place]]
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(int(self.offsets[place]))
                data = file.read(4 * dim)
        except FileNotFoundError:
            return None
        if len(data) < 4 * dim:
            return None
        return np.frombuffer(data, np.float32), FLAGS[self.flags[place]]

    def path(self, place: int) -> Path:
        """The file that holds the vector."""
        path: Path = self.paths[self.files[place]][0]
        return path
