"""Segments of the hash index find what was written, and never use what is damaged."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow.fs as pafs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bulkembed.transforms.dataset import index_segment
from bulkembed.transforms.dataset.index_segment import (
    ENTRY,
    IndexSegment,
    SegmentError,
    SegmentWriter,
    in_order,
)
from bulkembed.transforms.dataset.known_places import SourcePart

LOCAL = pafs.LocalFileSystem()
KEYS = st.integers(0, 6).map(lambda n: n * (2**64 // 7))
TRIPLES = st.lists(st.tuples(KEYS, st.integers(0, 3), st.integers(0, 2)), max_size=40)
PARTS = tuple(SourcePart(f"vectors/part-{n}.parquet", 100 + n, (n, 5)) for n in range(4))
PER_TABLE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_segment, "BLOCK_ENTRIES", 4)


def write(path: Path, entries: np.ndarray, pieces: int = 1) -> IndexSegment:
    with path.open("wb") as file:
        writer = SegmentWriter(file.write)
        for some in np.array_split(entries, pieces):
            writer.add(some)
        writer.finish(PARTS, "0123")
    return IndexSegment.open(LOCAL, str(path))


def ordered(triples: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Return the first row of each key and part, in order."""
    first: dict[tuple[int, int], int] = {}
    for key, part, row in triples:
        first[key, part] = min(row, first.get((key, part), row))
    return sorted((*pair, row) for pair, row in first.items())


@given(TRIPLES)
def test_entries_are_ordered_and_a_part_has_each_key_once(
    triples: list[tuple[int, int, int]],
) -> None:
    assert in_order(np.array(triples, ENTRY)).tolist() == ordered(triples)


@given(TRIPLES, st.integers(1, 5), st.lists(st.booleans(), min_size=4, max_size=4), st.sets(KEYS))
@PER_TABLE
def test_the_first_live_place_of_each_wanted_key_is_found(
    tmp_path: Path,
    triples: list[tuple[int, int, int]],
    pieces: int,
    live: list[bool],
    wanted: set[int],
) -> None:
    expected = ordered(triples)
    segment = write(tmp_path / "a.idx", in_order(np.array(triples, ENTRY)), pieces)
    assert segment.entries == len(expected)
    assert segment.parts == PARTS
    assert segment.digest == "0123"
    assert [one for block in segment.read() for one in block.tolist()] == expected
    keys = sorted(wanted)
    found = [
        (keys[at], *place)
        for places, found in segment.find(np.array(keys, np.uint64), np.array(live))
        for at, place in zip(places.tolist(), found.tolist(), strict=True)
    ]
    best: dict[int, tuple[int, int, int]] = {}
    for key, part, row in expected:
        if live[part] and key in wanted:
            best.setdefault(key, (key, part, row))
    assert found == sorted(best.values())


def test_a_lookup_reads_only_the_blocks_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "a.idx"
    entries = np.zeros(40, ENTRY)
    entries["key"] = np.arange(40)
    segment = write(path, entries)
    data = bytearray(path.read_bytes())
    data[5 * 4 * ENTRY.itemsize + 3] ^= 1  # In the block of the keys 20 to 23.
    path.write_bytes(data)
    live = np.ones(4, bool)
    wanted = np.array([0, 19, 24, 39], np.uint64)
    assert sum(len(at) for at, _ in segment.find(wanted, live)) == 4
    with pytest.raises(SegmentError, match="block 5 is damaged"):
        list(segment.find(np.array([21], np.uint64), live))
    with pytest.raises(SegmentError, match="block 5 is damaged"):
        list(segment.read())


@pytest.mark.parametrize("seed", range(20))
def test_damage_is_an_error_or_changes_nothing(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    path = tmp_path / "a.idx"
    entries = np.zeros(30, ENTRY)
    entries["key"] = np.sort(np.random.default_rng(seed).integers(0, 2**64, 30, np.uint64))
    segment = write(path, entries)
    data = bytearray(path.read_bytes())
    if draw.random() < 0.5:
        data = data[: draw.randrange(len(data))]
    else:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)
    with pytest.raises(SegmentError):
        list(IndexSegment.open(LOCAL, str(path)).read())
    del segment


@pytest.mark.parametrize("content", [b"", b"BEINDEX1", b"x" * 100, bytes(12) + b"BEINDEX1"])
def test_a_file_of_another_kind_is_no_segment(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.idx").write_bytes(content)
    with pytest.raises(SegmentError, match=r"a\.idx"):
        IndexSegment.open(LOCAL, str(tmp_path / "a.idx"))


def test_a_missing_file_is_no_segment(tmp_path: Path) -> None:
    with pytest.raises(SegmentError, match=r"a\.idx"):
        IndexSegment.open(LOCAL, str(tmp_path / "a.idx"))


def test_a_footer_larger_than_the_first_read_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_segment, "_TAIL_BYTES", 30)
    assert write(tmp_path / "a.idx", np.zeros(1, ENTRY)).parts == PARTS
