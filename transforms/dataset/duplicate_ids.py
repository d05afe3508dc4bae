"""Find ids that several rows have."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bulkembed.transforms.dataset.partitioned_rows import PartitionedRows, partitions_for

Keys = npt.NDArray[np.uint64]
_ROW = np.dtype([("key", "<u8")])
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""An odd number: products with it, modulo 2^64, are distinct, and their first bits are spread."""


class DuplicateIds:
    """Collects ids in any order, from several threads; equal ids are found by a 64-bit key.

    More keys than the buffer of `PartitionedRows` has are in a file without a name, which takes 8
    bytes for each. They are compared in partitions; one id of very many rows needs more memory.

    Args:
        folder: an existing folder on a local disk; None for the system's temporary directory.
        rows: about how many ids there will be.
    """

    def __init__(self, folder: Path | None = None, rows: int = 0) -> None:
        where = folder or Path(tempfile.gettempdir())
        self._keys = PartitionedRows(where, _ROW, partitions_for(rows, _ROW.itemsize))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._keys.close()

    def add(self, ids: pa.Array | pa.ChunkedArray) -> None:
        """Add ids, integers or strings; nulls are ignored.

        Raises:
            OutputError: the disk is full.
        """
        keys = id_keys(ids)
        if len(keys):
            self._keys.add_columns(key=keys)

    def duplicates(self) -> Keys:
        """Return the key of each id that several rows have, ascending and distinct.

        Raises:
            OutputError: the file cannot be read.
        """
        found = [np.empty(0, np.uint64)]
        for number in range(self._keys.partitions):
            rows: Any = self._keys.read(number)
            keys = np.sort(rows["key"])
            found.append(np.unique(keys[1:][keys[1:] == keys[:-1]]))
        return np.concatenate(found)  # Partitions are in the order of the keys.


def id_keys(ids: pa.Array | pa.ChunkedArray) -> Keys:
    """Return 64 bits for each id that is not null: of the integer itself, or of a string's hash.

    The keys of strings are valid in one process only, because Python's hashes differ between
    processes.
    """
    ids = ids.drop_null()
    if pa.types.is_integer(ids.type):
        # Not `hash`, which gives -1 and -2 the same number.
        numbers: npt.NDArray[np.int64] = ids.to_numpy().astype(np.int64)
    else:
        numbers = np.fromiter(map(hash, ids.to_pylist()), np.int64, len(ids))
    keys: Keys = numbers.view(np.uint64) * _SPREAD
    return keys
