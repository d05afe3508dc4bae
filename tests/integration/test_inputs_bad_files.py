"""Files that are damaged, empty, odd in their bytes, or not what they were."""

import bz2
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.encrypted import write_encrypted
from support.inputs import find_files

from bulkembed.schemas.content_parts import parse_part
from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import ConfigError, InputError
from bulkembed.schemas.inputs import InputColumns
from bulkembed.transforms.inputs.columns import merge_schemas
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import ScannedFile, read_batches, scan_file
from bulkembed.transforms.inputs.rows import RowBatch


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        out.write(data)
    return sink.getvalue().to_pybytes()


Encode = Callable[[bytes], bytes]
CODECS = {"gz": gzip.compress, "bz2": bz2.compress, "zst": zstd}
LINES = b"".join(b'{"id": %d, "text": "%d"}\n' % (n, n**20) for n in range(3000))
PLAIN = InputColumns()
each_codec = pytest.mark.parametrize(("suffix", "encode"), CODECS.items(), ids=CODECS)


def scan(path: Path, columns: InputColumns = PLAIN) -> ScannedFile:
    (found,) = find_files([str(path)])
    return scan_file(open_found(found), found, columns)


def read(scanned: ScannedFile, columns: InputColumns = PLAIN) -> RowBatch:
    schema = merge_schemas([scanned], columns)
    filesystem, ranges = open_found(scanned.found), [(0, scanned.rows)]
    (batch,) = read_batches(filesystem, scanned.input_file, columns, schema, ranges)
    return batch


@each_codec
def test_a_compressed_file_truncated_anywhere_is_rejected(
    tmp_path: Path, suffix: str, encode: Encode
) -> None:
    whole = encode(LINES)
    path = tmp_path / f"in.jsonl.{suffix}"
    for cut in (1, 2, 5, 11, len(whole) // 2, *(len(whole) - left for left in range(1, 12))):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match="--skip-bad-files") as caught:
            scan(path)
        assert path.name in caught.value.message, cut


@each_codec
def test_several_members_in_one_file_are_all_read(
    tmp_path: Path, suffix: str, encode: Encode
) -> None:
    path = tmp_path / f"in.jsonl.{suffix}"
    half = len(LINES) // 2 + 3
    path.write_bytes(encode(LINES[:half]) + encode(b"") + encode(LINES[half:]))
    scanned = scan(path)
    assert scanned.rows == 3000
    assert read(scanned).ids.to_pylist() == list(range(3000))


@each_codec
def test_a_truncated_second_member_is_rejected(tmp_path: Path, suffix: str, encode: Encode) -> None:
    path = tmp_path / f"in.jsonl.{suffix}"
    first, second = encode(LINES[:1000]), encode(LINES[1000:])
    for end in (1, 3, len(second) // 2, len(second) - 1):
        path.write_bytes(first + second[:end])
        with pytest.raises(InputError):
            scan(path)


@each_codec
@pytest.mark.parametrize("garbage", [b"x", b"garbage" * 9, b"\0" * 512])
def test_bytes_after_the_end_of_a_compressed_file_are_rejected(
    tmp_path: Path, suffix: str, encode: Encode, garbage: bytes
) -> None:
    path = tmp_path / f"in.jsonl.{suffix}"
    path.write_bytes(encode(LINES) + garbage)
    with pytest.raises(InputError, match=path.name):
        scan(path)


@pytest.mark.parametrize("suffix", ["gz", "bz2"])  # A zstd frame need not have a checksum.
def test_a_flipped_bit_is_rejected(tmp_path: Path, suffix: str) -> None:
    encode = CODECS[suffix]
    whole = bytearray(encode(LINES))
    whole[len(whole) // 2] ^= 1
    path = tmp_path / f"in.jsonl.{suffix}"
    path.write_bytes(whole)
    with pytest.raises(InputError, match=path.name):
        scan(path)


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "jsonl.bz2", "jsonl.zst"])
@pytest.mark.parametrize("content", [b"", b"\n\r\n  \n"], ids=["no-bytes", "blank-lines"])
def test_a_jsonl_file_without_rows_is_empty(tmp_path: Path, suffix: str, content: bytes) -> None:
    encode = CODECS.get(suffix.rpartition(".")[2], bytes) if content else bytes
    path = tmp_path / f"in.{suffix}"
    path.write_bytes(encode(content))
    columns = InputColumns(keep_columns=("x",))
    scanned = scan(path, columns)
    assert (scanned.rows, scanned.offsets, scanned.columns) == (0, (), ())
    assert merge_schemas([scanned], columns) == pa.schema([("id", pa.string()), ("x", pa.string())])
    assert read(scanned, columns).rows == 0


def test_a_parquet_file_without_rows_is_empty_and_keeps_its_types(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    schema = pa.schema([("id", pa.int64()), ("text", pa.string()), ("x", pa.float32())])
    pq.write_table(schema.empty_table(), path)
    columns = InputColumns(keep_columns=("x",))
    scanned = scan(path, columns)
    assert scanned.rows == 0
    assert merge_schemas([scanned], columns) == pa.schema([("id", pa.int64()), ("x", pa.float32())])
    assert read(scanned, columns).kept.schema.names == ["x"]


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"id": range(1000), "text": ["t"] * 1000}), path)
    return path


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_parquet_file_is_rejected(parquet: Path, share: float) -> None:
    whole = parquet.read_bytes()
    parquet.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=r"in\.parquet.*--skip-bad-files"):
        scan(parquet)


def test_a_parquet_file_with_damaged_pages_is_rejected_when_read(parquet: Path) -> None:
    whole = bytearray(parquet.read_bytes())
    whole[4:200] = b"\xff" * 196
    parquet.write_bytes(whole)
    scanned = scan(parquet)
    with pytest.raises(InputError, match=r"in\.parquet"):
        read(scanned)


def test_the_error_for_a_deleted_file_names_it(parquet: Path) -> None:
    scanned = scan(parquet)
    parquet.unlink()
    with pytest.raises(InputError, match=r"in\.parquet.*was deleted"):
        read(scanned)
    with pytest.raises(InputError, match=r"in\.parquet.*was deleted"):
        scan_file(open_found(scanned.found), scanned.found, PLAIN)


def test_a_file_of_another_size_is_rejected(parquet: Path) -> None:
    scanned = scan(parquet)
    parquet.write_bytes(parquet.read_bytes() + b"x")
    with pytest.raises(InputError, match=r"in\.parquet has changed"):
        read(scanned)


def test_a_file_with_fewer_rows_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"id": 1, "text": "a"}\n' * 2)
    scanned = scan(path)
    path.write_bytes(b'{"id": 1, "text": "a"}\n' + b" " * 23)
    with pytest.raises(InputError, match=r"in\.jsonl has changed.*fewer than 2 rows"):
        read(scanned)


def test_the_identity_of_a_file_depends_on_its_content_and_not_on_its_time(
    tmp_path: Path, parquet: Path
) -> None:
    copy = tmp_path / "copy" / parquet.name
    copy.parent.mkdir()
    copy.write_bytes(parquet.read_bytes())
    assert scan(copy).input_file.key == scan(parquet).input_file.key
    assert len(scan(parquet).digest) == 32
    copy.write_bytes(parquet.read_bytes().replace(b"t", b"u", 1))
    assert scan(copy).input_file.key != scan(parquet).input_file.key


def test_a_byte_order_mark_crlf_and_a_lone_cr_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"id": 1, "text": "a"}\r\n\r\n'
        b'{"id": 2,\r"text": "b"}\r\n{"id": 3, "text": "c"}'
    )
    scanned = scan(path)
    assert (scanned.rows, scanned.offsets) == (3, (3,))
    batch = read(scanned)
    assert batch.ids.to_pylist() == [1, 2, 3]
    assert batch.texts == ["a", "b", "c"]
    assert batch.bad == {}


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_texts_are_read_unchanged(tmp_path: Path, format: str) -> None:
    texts = [
        "x" * 500_000,
        "a\0b",
        "👩‍👩‍👧 🏳️‍🌈",
        "שלום עולם",
        "é vs é",
        "\u2028\x85\ufeff\r\n\t",
        " a ",
    ]
    path = tmp_path / f"in.{format}"
    if format == "parquet":
        pq.write_table(pa.table({"id": range(len(texts)), "text": texts}), path)
    else:
        rows = [{"id": n, "text": text} for n, text in enumerate(texts)]
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    batch = read(scan(path))
    assert batch.texts == texts
    assert batch.bad == {}


def test_the_error_for_a_missing_parquet_column_lists_the_columns(parquet: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"in\.parquet has no column 'body'.*'id', 'text'.*--text"
    ):
        scan(parquet, InputColumns(text_column="body"))
    with pytest.raises(ConfigError, match=r"no column 'uid'.*--generate-ids"):
        scan(parquet, InputColumns(id_column="uid"))
    kept = InputColumns(keep_columns=("x",))
    with pytest.raises(ConfigError, match=r"in\.parquet has no column 'x'.*--keep-columns"):
        merge_schemas([scan(parquet, kept)], kept)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        pytest.param("text", pa.array([1, 2]), id="text-int"),
        pytest.param("text", pa.array([["a"], ["b"]]), id="text-list"),
        pytest.param("text", pa.array([b"a", b"b"], pa.binary(1)), id="text-fixed-bytes"),
        pytest.param("id", pa.array([[1], [2]]), id="id-list"),
        pytest.param("id", pa.array([True, False]), id="id-bool"),
        pytest.param("id", pa.array([b"a", b"b"], pa.binary(1)), id="id-fixed-bytes"),
    ],
)
def test_a_parquet_column_of_a_wrong_type_is_rejected(
    tmp_path: Path, column: str, values: pa.Array
) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"id": [1, 2], "text": ["a", "b"]} | {column: values}), path)
    with pytest.raises(ConfigError) as caught:
        scan(path)
    for word in ("in.parquet", repr(column), str(values.type).partition("<")[0], "Cast it"):
        assert word in caught.value.message


def test_two_parquet_columns_with_one_name_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    arrays = [pa.array([1]), pa.array(["a"]), pa.array(["b"])]
    pq.write_table(pa.Table.from_arrays(arrays, names=["id", "text", "text"]), path)
    with pytest.raises(ConfigError, match="more than one column 'text'"):
        scan(path)


def test_a_parquet_string_that_is_not_utf8_fails_only_its_row(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    broken = pa.array([b"a", b"\xff", b"c", None]).view(pa.string())
    fine = pa.array(["1", "2", "3", "4"])
    for column, code in (("id", DeadCode.BAD_ID), ("text", DeadCode.BAD_TEXT)):
        pq.write_table(pa.table({"id": fine, "text": fine} | {column: broken}), path)
        batch = read(scan(path))
        got, message = batch.bad.pop(1)
        assert got is code
        assert "row 1 of in.parquet" in message
        missing = {3: DeadCode.MISSING_ID} if column == "id" else {}
        assert {offset: code for offset, (code, _) in batch.bad.items()} == missing
        batch.ids.validate(full=True)


def test_a_kept_parquet_string_that_is_not_utf8_is_null(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    broken = pa.array([b"a", b"\xff", b"c", None]).view(pa.string())
    pq.write_table(pa.table({"id": range(4), "text": ["t"] * 4, "x": broken}), path)
    columns = InputColumns(keep_columns=("x",))
    batch = read(scan(path, columns), columns)
    assert (batch.bad, batch.unkept) == ({}, {"x"})
    batch.kept.validate(full=True)
    assert batch.kept.column("x").to_pylist() == ["a", None, "c", None]


def test_encrypted_media_is_damage_of_the_file(tmp_path: Path) -> None:
    table = pa.table({"id": range(3), "photo": [b"1", b"2", b"3"]})
    path = write_encrypted(tmp_path / "in.parquet", table, "photo")
    columns = InputColumns(text_column=None, content=(parse_part("image:photo"),))
    with pytest.raises(InputError, match=r"in\.parquet cannot be read: .*decrypt") as error:
        read(scan(path, columns), columns)
    assert error.value.damaged


def test_columns_beside_an_encrypted_one_are_read(tmp_path: Path) -> None:
    pairs = pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int64(), 2))
    table = pa.table({"name": ["x", "y", "z"], "id": range(3), "text": list("abc"), "pair": pairs})
    path = write_encrypted(tmp_path / "in.parquet", table, "name")
    columns = InputColumns(keep_columns=("pair",))
    batch = read(scan(path, columns), columns)
    assert (batch.ids.to_pylist(), list(batch.texts)) == ([0, 1, 2], ["a", "b", "c"])
    assert batch.kept["pair"].to_pylist() == pairs.to_pylist()
