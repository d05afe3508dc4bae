"""Small files of arrays by which launcher and workers exchange what is too large for an element."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.stop import RERUN
from bulkembed.transforms.dataset.atomic_files import read_bytes
from bulkembed.transforms.dataset.dataset import Dataset


def write_arrays(dataset: Dataset, name: str, **arrays: npt.NDArray[Any]) -> None:
    """Write arrays to a file of the dataset, atomically.

    Raises:
        OutputError: the file cannot be written.
    """
    sink = io.BytesIO()
    np.savez(sink, **arrays)  # type: ignore[arg-type]  # None of them is `allow_pickle`.
    dataset.write(name, sink.getvalue())


def read_arrays(dataset: Dataset, name: str) -> Mapping[str, npt.NDArray[Any]]:
    """Return the arrays of a file by their names.

    Raises:
        OutputError: the file is missing or damaged.
    """
    path = dataset.path(name)
    data = read_bytes(dataset.filesystem, path)
    if data is None:
        raise OutputError(f"{path} is missing. {RERUN}", missing=True)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            return dict(found)
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise OutputError(f"{path} is damaged: {error}. {RERUN}", damaged=True) from None
