"""Temporary files without a name: arrays that need not fit into memory."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest

from bulkembed.schemas.errors import OutputError
from bulkembed.transforms.dataset import unnamed_file
from bulkembed.transforms.dataset.unnamed_file import zeros_on_disk


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001])
def test_an_array_on_disk_is_zero_until_it_is_written(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unnamed_file, "_ZERO_BYTES", 500)
    array = zeros_on_disk(tmp_path, size)
    assert array.tolist() == [0] * size
    array[size // 2 :] = 7
    assert np.count_nonzero(array) == size - size // 2
    assert not list(tmp_path.iterdir())


def test_an_array_that_the_disk_cannot_hold_is_an_output_error(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 12, limits[1]))
    try:
        with pytest.raises(OutputError, match=f"{tmp_path} cannot be written"):
            zeros_on_disk(tmp_path, 1 << 13)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
