"""The hash index finds each text that a counting part has, whatever happens to its segments."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from bulkembed.schemas.output_schema import TEXT_HASH_TYPE
from bulkembed.transforms.core.hashing import keys, text_hash
from bulkembed.transforms.dataset import index_segment, segment_files
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.hash_index import MAX_SEGMENTS, HashIndex
from bulkembed.transforms.dataset.layout import INDEX, VECTORS

LOCAL = pafs.LocalFileSystem()
DIGEST = "0123456789abcdef"
OTHER = "fedcba9876543210"
PLACES = ["disk", "store"]


class World:
    """A dataset with parts whose texts are known."""

    def __init__(self, root: Path, place: str) -> None:
        on_store = pafs.SubTreeFileSystem(str(root), LOCAL)
        self.root = root
        self.dataset = Dataset(*((on_store, "out") if place == "store" else (LOCAL, f"{root}/out")))
        self.scratch = root / "scratch"
        self.scratch.mkdir(parents=True)
        for folder in (VECTORS, INDEX):
            (root / "out" / folder).mkdir(parents=True)
        self.added = 0
        self.parts: dict[str, list[str]] = {}

    def add(self, texts: list[str], digest: str | None = DIGEST, group_rows: int = 3) -> str:
        name = f"{VECTORS}/part-{self.added}.parquet"
        self.added += 1
        schema = pa.schema([pa.field("text_hash", TEXT_HASH_TYPE)])
        if digest is not None:
            schema = schema.with_metadata({"bulkembed.digest": digest})
        table = pa.table([[text_hash(None, text) for text in texts]], schema)
        pq.write_table(table, self.root / "out" / name, row_group_size=group_rows)
        self.parts[name] = texts
        return name

    def sizes(self) -> dict[str, int]:
        return {name: (self.root / "out" / name).stat().st_size for name in self.parts}

    def open(self, *, keep: bool = True, trusted: bool = True) -> HashIndex:
        return HashIndex(
            self.dataset, self.sizes(), DIGEST, self.scratch, keep=keep, trusted=trusted
        )

    def segments(self) -> list[Path]:
        return sorted((self.root / "out" / INDEX).glob("*"))

    def check(self, index: HashIndex) -> None:
        """Check the places of all texts, and of some that no part has."""
        expected = {text for texts in self.parts.values() for text in texts}
        assert found_texts(self, index, [*expected, "nowhere", "never"]) == expected


def found_texts(world: World, index: HashIndex, texts: list[str]) -> set[str]:
    """Return the texts that are found, each in a row that has it."""
    by_key = {int(keys([text_hash(None, text)])[0]): text for text in texts}
    wanted = np.array(sorted(by_key), np.uint64)
    found = index.find(wanted)
    result = set()
    for at, part, row in zip(*found, strict=True):
        text = by_key[int(wanted[at])]
        assert world.parts[index.parts[part].name][row] == text
        result.add(text)
    assert found.wanted.tolist() == sorted(set(found.wanted.tolist()))
    return result


@pytest.fixture(params=PLACES)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return World(tmp_path, request.param)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_segment, "BLOCK_ENTRIES", 5)
    monkeypatch.setattr(segment_files, "_MERGE_ENTRIES", 7)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("seed", range(6))
def test_parts_come_and_go(tmp_path: Path, seed: int, place: str) -> None:
    draw = random.Random(seed)
    world = World(tmp_path, place)
    pool = [f"text {n}" for n in range(40)]
    for _ in range(2 * MAX_SEGMENTS):
        for _ in range(draw.randint(0, 3)):
            world.add(draw.choices(pool, k=draw.randint(1, 12)))
        for name in draw.sample(sorted(world.parts), draw.randint(0, len(world.parts) // 3)):
            del world.parts[name]
        index = world.open()
        world.check(index)
        assert len(world.segments()) <= MAX_SEGMENTS
        assert {part.name for part in index.parts} == set(world.parts)


def test_what_is_indexed_is_not_read_again(world: World) -> None:
    names = [world.add(["a", "b"]), world.add(["c"])]
    world.open()
    for name in names:  # The size stays the same.
        size = (world.root / "out" / name).stat().st_size
        (world.root / "out" / name).write_bytes(bytes(size))
    world.add(["d"])
    world.check(world.open())


def test_a_part_of_another_size_is_another_part(world: World) -> None:
    name = world.add(["a", "b"])
    world.open()
    table = pa.table([[text_hash(None, "z")] * 9], pa.schema([("text_hash", TEXT_HASH_TYPE)]))
    pq.write_table(table, world.root / "out" / name, compression="none")
    world.parts[name] = ["z"] * 9
    world.check(world.open())


def test_the_row_groups_of_parts_are_known(world: World) -> None:
    world.add(["a", "b", "c", "d", "e"], group_rows=2)
    for _ in range(2):
        assert [part.group_rows for part in world.open().parts] == [(2, 2, 1)]


def test_equal_texts_are_found_in_the_first_part(world: World) -> None:
    first = world.add(["x", "a", "a"])
    world.add(["a"])
    index = world.open()
    found = index.find(keys([text_hash(None, "a")]))
    assert [index.parts[part].name for part in found.parts] == [first]
    assert found.rows.tolist() == [1]


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied"])
def test_a_damaged_segment_is_built_again(
    world: World, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    world.add([f"text {n}" for n in range(20)])
    world.open()
    world.add(["more"])
    world.open()
    for path in world.segments():
        data = bytearray(path.read_bytes())
        if damage == "flipped":
            data[3] ^= 1  # In the first block: the footer is intact.
        path.write_bytes(bytes(data[: {"cut": len(data) // 2, "emptied": 0}.get(damage)]))
    index = world.open()
    parts = index.parts
    world.check(index)
    assert index.parts == parts
    assert ("is built again" in caplog.text) == (damage == "flipped")
    world.check(world.open())


def test_damage_that_a_merge_finds_is_built_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(MAX_SEGMENTS):
        world.add([f"text {number}"])
        world.open()
    assert len(world.segments()) == MAX_SEGMENTS
    for path in world.segments()[:2]:
        data = bytearray(path.read_bytes())
        data[0] ^= 1
        path.write_bytes(data)
    world.add(["more"])
    world.check(world.open())
    assert "is built again" in caplog.text


def test_a_segment_of_other_settings_is_not_used(world: World) -> None:
    world.add(["a"])
    HashIndex(world.dataset, world.sizes(), OTHER, world.scratch, keep=True)
    before = world.segments()
    world.check(world.open())
    assert not set(before) & set(world.segments())


def test_parts_that_are_not_trusted_count_by_their_digest(world: World) -> None:
    for text, digest in {"a": DIGEST, "b": OTHER, "c": None}.items():
        world.add([text], digest)
    world.check(world.open())  # Its segment must not be used next.
    assert found_texts(world, world.open(keep=False, trusted=False), ["a", "b", "c"]) == {"a"}


def test_a_dataset_that_must_not_be_written_is_not(world: World) -> None:
    world.add(["a", "b"])
    world.open()
    world.add(["c"])
    (world.root / "out" / INDEX / ".tmp-x").write_bytes(b"")
    before = {path: path.read_bytes() for path in world.segments()}
    world.check(world.open(keep=False))
    assert {path: path.read_bytes() for path in world.segments()} == before


def test_what_a_killed_run_has_left_is_deleted(world: World) -> None:
    world.add(["a"])
    world.open()
    for name in (".tmp-0.segment", "half.segment"):
        (world.root / "out" / INDEX / name).write_bytes(b"half")
    world.check(world.open())
    assert len(world.segments()) == 1


def test_a_run_killed_between_a_merge_and_its_deletions_leaves_a_right_index(world: World) -> None:
    for number in range(MAX_SEGMENTS):
        world.add([f"text {number}", "everywhere"])
        world.open()
    before = {path: path.read_bytes() for path in world.segments()}
    world.add(["more"])
    world.open()
    assert len(world.segments()) < MAX_SEGMENTS
    for path, data in before.items():
        path.write_bytes(data)
    index = world.open()
    world.check(index)
    assert index.entries == 2 * MAX_SEGMENTS + 1
    assert len(world.segments()) < MAX_SEGMENTS


def test_another_run_may_merge_the_segments_of_a_reader(world: World) -> None:
    for number in range(3):
        world.add([f"text {number}"])
        world.open()
    reader = world.open(keep=False)
    parts = reader.parts
    for path in world.segments():
        path.unlink()
    world.check(reader)
    assert reader.parts == parts


def test_a_part_that_cannot_be_read_is_left_out(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    bad = world.add(["a"])
    world.add(["b"])
    (world.root / "out" / bad).write_bytes(b"no Parquet")
    assert found_texts(world, world.open(), ["a", "b"]) == {"b"}
    assert f"{bad} cannot be read" in caplog.text


def test_there_may_be_nothing_to_find(world: World) -> None:
    index = world.open()
    assert index.parts == ()
    assert not len(index.find(np.empty(0, np.uint64)).wanted)
    world.add(["a"])
    assert not len(world.open().find(np.empty(0, np.uint64)).wanted)
    assert not len(world.open().find(np.array([1], np.uint64)).wanted)


def test_ten_thousand_texts_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    world = World(tmp_path, "disk")
    for start in range(0, 10_000, 2_500):
        world.add([f"text {n}" for n in range(start, start + 2_500)], group_rows=2_500)
    index = world.open()
    world.check(index)
    assert index.entries == 10_000
    assert sum(path.stat().st_size for path in world.segments()) < 10_000 * 16.5
