from __future__ import annotations

import bz2
import gzip
import io
import itertools
import json
import random
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.inputs import read_all, scan_all
from support.tar_shards import tar_of

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import ConfigError, InputError
from bulkembed.schemas.inputs import KEEP_ALL, InputColumns
from bulkembed.transforms.inputs.columns import merge_schemas
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import read_batches
from bulkembed.transforms.inputs.rows import RowBatch
from bulkembed.transforms.inputs.tar_members import TarReader

TEXT = InputColumns(id_column="__key__", text_column="txt")
JPEG = b"\xff\xd8\xff" + bytes(range(256)) * 8
BIG = 2**64 + 1


def shard(folder: Path, *members: tuple[str, bytes], name: str = "000.tar") -> Path:
    (folder / name).write_bytes(tar_of(members))
    return folder


def row(number: int, text: str | None = None) -> list[tuple[str, bytes]]:
    key = f"{number:06d}"
    caption = text or f"text {number}"
    fields = json.dumps({"caption": caption, "width": number, "exif": {"make": "x"}}).encode()
    return [(f"{key}.jpg", JPEG), (f"{key}.json", fields), (f"{key}.txt", caption.encode())]


def rows(count: int) -> list[tuple[str, bytes]]:
    return list(itertools.chain.from_iterable(map(row, range(count))))


def read(folder: Path, columns: InputColumns = TEXT) -> RowBatch:
    _, (batch,) = read_all(folder, columns)
    return batch


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.tar", bytes),
        ("a.tar.gz", gzip.compress),
        ("a.tgz", gzip.compress),
        ("a.tar.bz2", bz2.compress),
        ("a.tar", gzip.compress),
        ("a.jsonl", bytes),
        ("a.parquet", gzip.compress),
    ],
)
def test_files_of_a_stem_are_a_row(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes]
) -> None:
    (tmp_path / name).write_bytes(pack(tar_of(rows(30))))
    batch = read(tmp_path)
    assert batch.ids.to_pylist() == [f"{number:06d}" for number in range(30)]
    assert batch.texts == [f"text {number}" for number in range(30)]
    assert batch.bad == {}


def test_fields_of_the_json_and_endings_are_columns(tmp_path: Path) -> None:
    kept = ("width", "exif.make", "jpg", "txt", "cls")
    columns = InputColumns(id_column="__key__", text_column="caption", keep_columns=kept)
    batch = read(shard(tmp_path, *row(7, "a red boot"), ("000007.cls", b"3")), columns)
    assert batch.texts == ["a red boot"]
    assert batch.kept.to_pylist() == [
        {"width": 7, "exif.make": "x", "jpg": JPEG, "txt": "a red boot", "cls": "3"}
    ]
    assert batch.kept.schema.field("jpg").type == pa.binary()


def test_all_columns_are_kept_with_their_types(tmp_path: Path) -> None:
    columns = InputColumns(id_column="__key__", text_column="txt", keep_columns=(KEEP_ALL,))
    batch = read(shard(tmp_path, *row(7)), columns)
    kept = {field.name: str(field.type) for field in batch.kept.schema}
    assert kept == {
        "caption": "string", "width": "int64", "exif": "struct<make: string>", "jpg": "binary",
        "txt": "string",
    }  # fmt: skip


def test_a_file_wins_over_a_field_of_its_name(tmp_path: Path) -> None:
    fields = json.dumps({"txt": "field", "__key__": "other", "big": BIG}).encode()
    members = [("1.json", fields), ("1.txt", b"file")]
    columns = InputColumns(id_column="__key__", text_column="txt", keep_columns=("big",))
    batch = read(shard(tmp_path, *members), columns)
    assert batch.texts == ["file"]
    assert batch.ids.to_pylist() == ["1"]
    assert batch.kept.to_pylist() == [{"big": str(BIG)}]


def test_any_text_file_can_be_the_text_and_a_field_the_id(tmp_path: Path) -> None:
    columns = InputColumns(id_column="n", text_column="caption.en")
    members = [("1.caption.en", "Ä dog".encode()), ("1.json", b'{\n "n": 5\n}\n')]
    batch = read(shard(tmp_path, *members), columns)
    assert (batch.ids.to_pylist(), batch.texts) == ([5], ["Ä dog"])
    assert batch.ids.type == pa.int64()


def test_stems_are_paths_up_to_the_first_dot_of_the_name(tmp_path: Path) -> None:
    names = [
        "./a.b/0001.seg.PNG", "a.b/0001.txt", "a.b/0002.txt", "c/0002.txt", "README", ".hidden.txt",
        "a/._0002.txt", "__meta__.json",
    ]  # fmt: skip
    batch = read(shard(tmp_path, *((name, b"x") for name in names)))
    assert batch.ids.to_pylist() == ["a.b/0001", "a.b/0002", "c/0002"]
    (scanned,) = scan_all(tmp_path, TEXT)
    assert scanned.columns == ("__key__", "seg.png", "txt")


def test_a_repeated_ending_begins_another_row(tmp_path: Path) -> None:
    batch = read(shard(tmp_path, ("1.txt", b"a"), ("1.txt", b"b"), ("1.jpg", b"")))
    assert batch.ids.to_pylist() == ["1", "1"]
    assert batch.texts == ["a", "b"]


def test_faults_of_a_row_are_its_dead_letter(tmp_path: Path) -> None:
    members = [
        ("0.txt", b"fine"), ("0.json", b"{broken"),
        ("1.txt", b"\xff\xfe"),
        ("2.jpg", JPEG),
        ("3.json", b"[1]"), ("3.txt", b"fine"),
        ("4.json", b'{"caption": "fine"}'), ("4.txt", b"fine"),
    ]  # fmt: skip
    batch = read(shard(tmp_path, *members))
    assert batch.texts == ["fine", None, None, "fine", "fine"]
    assert {offset: code for offset, (code, _) in batch.bad.items()} == {1: DeadCode.BAD_TEXT}
    assert "row 1 of 000.tar: byte 0 of '1.txt' is not UTF-8" in batch.bad[1][1]
    columns = InputColumns(id_column="__key__", text_column="caption")
    batch = read(tmp_path, columns)
    codes = {offset: code for offset, (code, _) in batch.bad.items()}
    assert codes == {0: DeadCode.BAD_JSON, 3: DeadCode.BAD_JSON}
    assert "'0.json': invalid JSON" in batch.bad[0][1]
    assert batch.texts == [None, None, None, None, "fine"]


def test_a_file_that_is_no_text_cannot_be_one(tmp_path: Path) -> None:
    columns = InputColumns(id_column="__key__", text_column="jpg")
    assert read(shard(tmp_path, *row(1)), columns).bad[0][0] is DeadCode.BAD_TEXT


def test_a_missing_column_is_named_before_anything_is_read(tmp_path: Path) -> None:
    columns = InputColumns(id_column="__key__", text_column="captoin")
    with pytest.raises(ConfigError, match="Did you mean caption"):
        read(shard(tmp_path, *row(1)), columns)


def test_a_tar_of_data_files_is_not_a_tar_of_rows(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Unpack it"):
        read(shard(tmp_path, ("train.jsonl", b'{"id": 1, "text": "a"}\n')))


def test_a_tar_without_files_is_not_accepted_since_it_has_null_bytes_only(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a file of NUL bytes"):
        scan_all(shard(tmp_path), TEXT)


def damages() -> dict[str, Callable[[bytes], bytes]]:
    header = 3 * 512 + 2560  # Of 000000.txt, after a JPEG and a JSON file.
    return {
        "within-a-file": lambda data: data[:1000],
        "within-a-header": lambda data: data[: header + 100],
        "between-files": lambda data: data[:header],
        "broken-header": lambda data: data[:header] + b"x" + data[header + 1 :],
        "zeroed-header": lambda data: data[:header] + bytes(10) + data[header + 10 :],
        "without-an-end": lambda data: data.rstrip(b"\0") + bytes(-len(data.rstrip(b"\0")) % 512),
        "other-bytes-after-it": lambda data: data + b"more",
        "empty": lambda data: b"",
        "half": lambda data: data[: len(data) // 2],
    }


@pytest.mark.parametrize("damage", damages().values(), ids=damages())
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_damaged_archive_is_a_damaged_file(
    tmp_path: Path, pack: Callable[[bytes], bytes], damage: Callable[[bytes], bytes]
) -> None:
    whole = tar_of(rows(3))
    assert whole[3 * 512 + 2560 :].startswith(b"000000.txt")
    (tmp_path / "a.tar").write_bytes(pack(damage(whole)))
    with pytest.raises(InputError, match=r"a\.tar cannot be read.*--skip-bad-files") as caught:
        scan_all(tmp_path, TEXT)
    assert caught.value.damaged


def test_a_gzip_file_that_is_cut_off_is_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(tar_of(rows(3)))[:-9])
    with pytest.raises(InputError, match="--skip-bad-files"):
        scan_all(tmp_path, TEXT)


def test_archives_may_follow_each_other(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of(rows(2)) + tar_of([("x.txt", b"last")]))
    assert read(tmp_path).texts == ["text 0", "text 1", "last"]


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_are_read_in_every_form(tmp_path: Path, kind: int) -> None:
    longer = 90 if kind == tarfile.USTAR_FORMAT else 300
    names = [f"{'folder' * 10}/{'k' * longer}", "å/blå"]
    members = [(f"{name}.txt", name.encode()) for name in names]
    (tmp_path / "a.tar").write_bytes(tar_of(members, kind))
    batch = read(tmp_path)
    assert batch.ids.to_pylist() == names
    assert batch.texts == names


def test_a_tar_of_the_tar_command_is_read(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    for name, data in rows(3):
        (source / "deep" / name).write_bytes(data)
    (source / "deep/link.txt").symlink_to("000000.txt")
    (source / "deep/zhard.txt").hardlink_to(source / "deep/000002.txt")
    (tmp_path / "in").mkdir()
    subprocess.run(
        ["tar", "--sort=name", "-C", source, "-czf", tmp_path / "in/a.tar.gz", "."], check=True
    )
    batch = read(tmp_path / "in")
    assert batch.ids.to_pylist() == [f"deep/{number:06d}" for number in range(3)]
    assert batch.texts == ["text 0", "text 1", "text 2"]


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_any_ranges_are_read_as_they_are_in_the_whole(tmp_path: Path, name: str) -> None:
    count = 2300
    data = tar_of(itertools.chain.from_iterable(row(number)[1:] for number in range(count)))
    (tmp_path / name).write_bytes(gzip.compress(data, 1) if name.endswith("gz") else data)
    (scanned,) = scan_all(tmp_path, TEXT)
    assert scanned.rows == count
    assert len(scanned.offsets) == (3 if name == "a.tar" else 0)
    filesystem, schema = open_found(scanned.found), merge_schemas([scanned], TEXT)
    choose = random.Random(5)
    for _ in range(4):
        ends = sorted(choose.sample(range(count + 1), 6))
        ranges = [(ends[i], ends[i + 1] - ends[i]) for i in (0, 2, 4)]
        batches = read_batches(filesystem, scanned.input_file, TEXT, schema, ranges)
        for (first, size), batch in zip(ranges, batches, strict=True):
            assert batch.texts == [f"text {number}" for number in range(first, first + size)]
            assert batch.first_row == first


NAMES = st.from_regex(r"[a-c]{1,2}(/[a-c])?", fullmatch=True)
ENDINGS = st.sampled_from(["txt", "jpg", "json", "seg.png"])


@given(st.lists(st.tuples(NAMES, ENDINGS, st.binary(max_size=1500)), max_size=12))
@settings(max_examples=60, deadline=None)
def test_members_are_those_that_tarfile_finds(members: list[tuple[str, str, bytes]]) -> None:
    data = tar_of((f"{name}.{ending}", content) for name, ending, content in members)
    reader = TarReader(io.BytesIO(data))
    found = [(member.name, member.at, reader.data()) for member in reader]
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        expected: list[Any] = [
            (one.name, one.offset, tar.extractfile(one).read())  # type: ignore[union-attr]
            for one in tar
        ]
    assert found == expected
