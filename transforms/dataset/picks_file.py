"""Which texts a worker embeds first, as a file: there may be too many for an element of Beam."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from bulkembed.schemas.units import FilePicks, SharedSlice
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.work_lists import read_list, write_list

SUFFIX = ".picks"
_NONE = np.empty(0, np.int64)


def write_picks(dataset: Dataset, run_id: str, shared: SharedSlice) -> SharedSlice:
    """Write the rows and passages of a slice to a file; return the slice without them.

    Raises:
        OutputError: the file cannot be written.
    """
    arrays = [array for file in shared.files for array in (file.rows, file.passages)]
    data = b"".join(array.astype("<i8").tobytes() for array in arrays)
    write_list(dataset, run_id, shared.name + SUFFIX, data)
    return dataclasses.replace(
        shared,
        files=tuple(FilePicks(file.file, _NONE, _NONE) for file in shared.files),
        stored=tuple(file.texts for file in shared.files),
    )


def read_picks(dataset: Dataset, run_id: str, shared: SharedSlice) -> tuple[FilePicks, ...]:
    """Return the texts of a slice, read from its file if it has one.

    Raises:
        OutputError: the file is missing or damaged.
    """
    if not shared.stored:
        return shared.files
    data = read_list(dataset, run_id, shared.name + SUFFIX)
    numbers = np.frombuffer(data, "<i8").astype(np.int64)
    sizes = itertools.chain.from_iterable((texts, texts) for texts in shared.stored)
    ends = np.cumsum([*sizes])
    arrays = iter(np.split(numbers, ends[:-1]))
    return tuple(FilePicks(one.file, next(arrays), next(arrays)) for one in shared.files)
