"""Vectors in spill files, found by text hash: arrays, 27 bytes a text, off the Python heap."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from transforms.clients.decode import Matrix
from transforms.storage.spill_file import FLAGS, HASH_TYPE, read_entries

Places = npt.NDArray[np.int64]


class VectorIndex:
    """Where the vectors of texts stand.  A place is a row of the index, ascending by hash."""

    def __init__(self) -> None:
        self._names = np.empty(0, HASH_TYPE)
        self._offsets = np.empty(0, np.uint64)
        self._files = np.empty(0, np.uint16)
        self._flags = np.empty(0, np.uint8)
        self._paths: list[tuple[Path, int]] = []

    def __len__(self) -> int:
        return len(self._names)

    def add(self, paths: Sequence[Path]) -> None:
        """Takes in the texts of more files; one that is there already keeps its first place."""
        names, offsets, files, flags = (
            [self._names],
            [self._offsets],
            [self._files],
            [self._flags],
        )
        for path in paths:
            blocks = list(read_entries(path))
            if not blocks:
                continue
            number = len(self._paths)
            self._paths.append((path, blocks[0].dim))
            for block in blocks:
                names.append(block.hashes)
                offsets.append(block.offsets)
                files.append(np.full(len(block.hashes), number, np.uint16))
                flags.append(block.flags)
        if len(names) == 1:
            return
        every = np.concatenate(names)
        self._names, first = np.unique(every, return_index=True)
        self._offsets = np.concatenate(offsets)[first]
        self._files = np.concatenate(files)[first]
        self._flags = np.concatenate(flags)[first]

    def find(self, hashes: Sequence[bytes]) -> Places:
        """The places of texts, -1 where there is none; one a hash, in their order."""
        if not len(self) or not hashes:
            return np.full(len(hashes), -1, np.int64)
        wanted = np.frombuffer(b"".join(hashes), HASH_TYPE)
        at = np.searchsorted(self._names, wanted)
        at[at == len(self)] = 0
        places: Places = np.where(self._names[at] == wanted, at, -1)
        return places

    def vector(self, place: int) -> tuple[Matrix, bool | None] | None:
        """The vector (dim,) at a place and its flag; None where it cannot be read any more."""
        path, dim = self._paths[self._files[place]]
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(int(self._offsets[place]))
                data = file.read(4 * dim)
        except FileNotFoundError:
            return None
        if len(data) < 4 * dim:
            return None
        return np.frombuffer(data, np.float32), FLAGS[self._flags[place]]

    def path(self, place: int) -> Path:
        """The file that holds the vector."""
        path: Path = self._paths[self._files[place]][0]
        return path
