"""Rows in partitions come back whole and in order, in memory and on disk."""

from __future__ import annotations

import concurrent.futures
import resource
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bulkembed.schemas.errors import OutputError
from bulkembed.transforms.core.repeats import find_repeats
from bulkembed.transforms.dataset.partitioned_rows import (
    MAX_PARTITIONS,
    PartitionedRows,
    partitions_for,
)

ROW = np.dtype([("key", np.uint64), ("place", np.uint32)])
WIDE = np.dtype([("key", np.uint64, 2), ("place", np.uint32)])
ARRAYS = st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=9), max_size=6)


@given(ARRAYS, st.sampled_from([1, 2, 16, 4096]), st.sampled_from([ROW, WIDE]), st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_row_is_in_the_partition_of_its_key_in_the_order_added(
    tmp_path: Path, arrays: list[list[int]], partitions: int, kind: np.dtype, data: st.DataObject
) -> None:
    buffer_bytes = data.draw(st.sampled_from([1, 40, 1 << 20]))
    expected: list[list[tuple[int, int]]] = [[] for _ in range(partitions)]
    place = 0
    with PartitionedRows(tmp_path, kind, partitions, buffer_bytes=buffer_bytes) as rows:
        for keys in arrays:
            if not keys:
                continue
            places = np.arange(place, place + len(keys), dtype=np.uint32)
            place += len(keys)
            column = np.array(keys, np.uint64)
            rows.add_columns(key=column if kind is ROW else column[:, None], place=places)
            for key, number in zip(keys, places.tolist(), strict=True):
                expected[key * partitions >> 64].append((key, number))
        found = [rows.read(number) for number in range(partitions)]
        assert len(rows) == place
        assert rows.counts.tolist() == [len(one) for one in expected]
        assert rows.disk_bytes <= place * rows.dtype.itemsize
        assert rows.disk_bytes or place * rows.dtype.itemsize <= buffer_bytes + rows.dtype.itemsize
    as_lists = [
        [(int(np.ravel(row["key"])[0]), int(row["place"])) for row in array] for array in found
    ]
    assert as_lists == expected


def test_rows_can_be_added_after_a_partition_was_read(tmp_path: Path) -> None:
    rows = PartitionedRows(tmp_path, ROW, 2, buffer_bytes=30)
    for place in range(5):
        rows.add_columns(key=np.array([1], np.uint64), place=place)
        assert rows.read(0)["place"].tolist() == list(range(place + 1))
    assert not len(rows.read(1))


def test_no_piece_is_larger_than_the_buffer(tmp_path: Path) -> None:
    rows = PartitionedRows(tmp_path, ROW, 4, buffer_bytes=100 * ROW.itemsize)
    rows.add_columns(key=np.zeros(1050, np.uint64), place=np.arange(1050))
    pieces = list(rows.pieces(0))
    assert [len(piece) for piece in pieces] == [100] * 10 + [50]
    assert np.concatenate(pieces)["place"].tolist() == list(range(1050))


def test_several_threads_can_add_rows(tmp_path: Path) -> None:
    rows = PartitionedRows(tmp_path, ROW, 8, buffer_bytes=1000)
    draw = np.random.default_rng(1).integers(0, 2**64, (40, 100), np.uint64)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda keys: rows.add_columns(key=keys, place=0), draw))
    found = np.concatenate([rows.read(number)["key"] for number in range(8)])
    assert np.array_equal(np.sort(found), np.sort(draw.ravel()))


def test_nothing_is_left_in_the_folder(tmp_path: Path) -> None:
    rows = PartitionedRows(tmp_path, ROW, 1, buffer_bytes=1)
    rows.add_columns(key=np.arange(10, dtype=np.uint64), place=0)
    assert rows.disk_bytes == 10 * ROW.itemsize
    assert not list(tmp_path.iterdir())
    rows.close()
    rows.close()


def test_a_full_disk_is_an_output_error(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    rows = PartitionedRows(tmp_path, ROW, 1, buffer_bytes=1 << 12)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 12, limits[1]))
    try:
        with pytest.raises(OutputError, match=f"{tmp_path} cannot be written"):
            rows.add_columns(key=np.arange(1 << 12, dtype=np.uint64), place=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_folder_that_is_missing_is_an_output_error(tmp_path: Path) -> None:
    rows = PartitionedRows(tmp_path / "none", ROW, 1, buffer_bytes=1)
    with pytest.raises(OutputError, match="cannot be written"):
        rows.add_columns(key=np.zeros(1, np.uint64), place=0)


@pytest.mark.parametrize(
    ("rows", "partitions"),
    [(0, 1), (1, 1), (1 << 20, 1), ((1 << 20) + 1, 2), (50_000_000, 64), (10**12, MAX_PARTITIONS)],
)
def test_the_number_of_partitions_follows_from_the_rows(rows: int, partitions: int) -> None:
    assert partitions_for(rows, 32, 32 << 20) == partitions


def test_many_rows_are_written_and_searched_in_little_memory(tmp_path: Path) -> None:
    """A run holds its first units beside the search, and should need less than 600 MB."""
    count, kind = 3_000_000, np.dtype([("key", np.uint64), ("place", np.uint64)])
    chance = np.random.default_rng(1)
    found = 0
    tracemalloc.start()
    try:
        with PartitionedRows(tmp_path, kind, partitions_for(count, kind.itemsize)) as rows:
            for first in range(0, count, 2500):
                keys = chance.integers(0, 1 << 64, 2500, np.uint64)
                rows.add_columns(key=keys, place=np.arange(first, first + 2500))
            for number in range(rows.partitions):
                some: Any = rows.read(number)
                found += len(find_repeats(some["key"], some["place"]).places)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == count
    assert peak_bytes < 40e6


@pytest.mark.parametrize("partitions", [0, 3, 2 * MAX_PARTITIONS])
def test_the_number_of_partitions_is_a_power_of_two(tmp_path: Path, partitions: int) -> None:
    with pytest.raises(ValueError, match=f"{partitions} is not a power of two"):
        PartitionedRows(tmp_path, ROW, partitions)


def test_files_are_closed(tmp_path: Path) -> None:
    before = open_files()
    with PartitionedRows(tmp_path, ROW, 1, buffer_bytes=1) as rows:
        rows.add_columns(key=np.zeros(3, np.uint64), place=0)
        assert open_files() == before + 1
    assert open_files() == before


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
