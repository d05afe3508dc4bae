"""The texts that a worker embeds first come back from their file, or it is an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.jobs import a_file

from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.units import FilePicks, SharedSlice
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.picks_file import read_picks, write_picks

PAIRS = st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 9)), min_size=1, max_size=5)


@given(st.lists(PAIRS, min_size=1, max_size=3))
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_picks_come_back(tmp_path: Path, files: list[list[tuple[int, int]]]) -> None:
    dataset = Dataset.open(str(tmp_path))
    picks = tuple(
        FilePicks(a_file(10, f"{n}.parquet"), *np.array(pairs, np.int64).T.copy())
        for n, pairs in enumerate(files)
    )
    stored = write_picks(dataset, "now", SharedSlice("shared-0", picks))
    assert all(not file.texts for file in stored.files)
    found = read_picks(dataset, "now", stored)
    for one, other, pairs in zip(found, picks, files, strict=True):
        assert one.file == other.file
        assert list(zip(one.rows.tolist(), one.passages.tolist(), strict=True)) == pairs


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    dataset = Dataset.open(str(tmp_path))
    picks = FilePicks(a_file(10), np.arange(3), np.zeros(3, np.int64))
    stored = write_picks(dataset, "now", SharedSlice("shared-0", (picks,)))
    (path,) = (tmp_path / "_run/gather").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(OutputError, match="missing or damaged"):
        read_picks(dataset, "now", stored)
    path.unlink()
    with pytest.raises(OutputError, match="missing or damaged"):
        read_picks(dataset, "now", stored)
