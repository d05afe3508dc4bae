"""The content of a file decides how it is read, or why it is not, whatever its name is."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq
import pytest
from support.inputs import read_all

from bulkembed.schemas.errors import InputError

ROWS = [{"id": n, "text": f"document number {n}"} for n in range(40)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
ARRAY = json.dumps(ROWS).encode()
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize 9\n"


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


def parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


def feather() -> bytes:
    sink = io.BytesIO()
    pyarrow.feather.write_feather(pa.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


def orc() -> bytes:
    sink = io.BytesIO()
    pyarrow.orc.write_table(pa.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


def archive(kind: str) -> bytes:
    sink = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(sink, "w") as packed:
            packed.writestr("in.jsonl", LINES)
    else:
        with tarfile.open(fileobj=sink, mode="w") as tar:
            member = tarfile.TarInfo("in.jsonl")
            member.size = len(LINES)
            tar.addfile(member, io.BytesIO(LINES))
    return sink.getvalue()


def put(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    "name", ["in.jsonl", "in.jsonl.gz", "in.jsonl.bz2", "in.ndjson.zst", "in.parquet"]
)
@pytest.mark.parametrize(
    ("encode", "codec"),
    [(gzip.compress, "gzip"), (bz2.compress, "bz2"), (zstd, "zstd"), (bytes, None)],
    ids=["gzip", "bz2", "zstd", "plain"],
)
def test_the_content_decides_the_format_whatever_the_name(
    tmp_path: Path, name: str, encode: Callable[[bytes], bytes], codec: str | None
) -> None:
    _, (batch,) = read_all(put(tmp_path, name, encode(LINES)))
    assert batch.ids.to_pylist() == list(range(40))
    assert batch.bad == {}


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz"])
def test_parquet_is_read_from_a_file_named_jsonl(tmp_path: Path, name: str) -> None:
    _, (batch,) = read_all(put(tmp_path, name, parquet()))
    assert batch.texts == [row["text"] for row in ROWS]


ERROR_PAGE = b'<?xml version="1.0"?>\n<Error><Code>NoSuchKey</Code><Key>a.jsonl</Key></Error>'
HTML = b'<!DOCTYPE html>\n<html><head><script>\n{"id": 1, "text": "a"}\n</script></head></html>'
NESTED = json.dumps({"rows": ROWS}, indent=1).encode()
ONE_A_LINE = b"[\n" + b",\n".join(json.dumps(row).encode() for row in ROWS) + b"\n]\n"
INNER = b'{\n"rows": [\n{"id": 1, "text": "a"},\n{"id": 2, "text": "b"}\n]\n}\n'

FOREIGN = {
    "json-array": (ARRAY, "a JSON array", "jq -c '.[]'"),
    "indented-array": (json.dumps(ROWS, indent=2).encode(), "a JSON array", "jq -c '.[]'"),
    "array-an-object-a-line": (ONE_A_LINE, "a JSON array", "jq -c '.[]'"),
    "array-behind-a-mark": (b"\xef\xbb\xbf\n " + ARRAY, "a JSON array", "jq -c '.[]'"),
    "long-array": (json.dumps(ROWS * 100).encode(), "a JSON array", "jq -c '.[]'"),
    "empty-array": (b"[]\n", "a JSON array", "jq -c '.[]'"),
    "arrays-welded": (ARRAY + b"\n" + ARRAY, "JSON arrays, one per line", "jq -c '.[]'"),
    "lists": (b'[1, "a"]\n[2, "b"]\n', "lines of JSON lists", "columns' names"),
    "pretty": (NESTED, "objects over several lines", "jq -c ."),
    "pretty-rows": (
        "\n".join(json.dumps(row, indent=2) for row in ROWS).encode(),
        "objects over several lines",
        "jq -c .",
    ),
    "pretty-and-long": (
        json.dumps({"rows": ROWS * 100}, indent=1).encode(),
        "objects over several lines",
        "jq -c .",
    ),
    "pretty-with-rows-inside": (INNER, "objects over several lines", "jq -c ."),
    "commas": (b",".join(LINES.splitlines()), "commas between them", "without commas"),
    "lines-with-commas": (b",\n".join([*LINES.splitlines(), b""]), "commas", "without commas"),
    "python-dicts": (b"{'id': 1, 'text': 'a'}\n", "Python dicts, not JSON", "json.dumps"),
    "csv": (b"id,text\n1,a\n2,b\n", "looks like CSV", "to_parquet"),
    "tsv": (b"id\ttext\n1\ta\n", "looks like TSV", r"sep='\t'"),
    "text": (b"Call me Ishmael.\nSome years ago\n", "text without a JSON object", "Call me"),
    "strings": (b'"a"\n"b"\n', "text without a JSON object", "one JSON object per line"),
    "lfs": (POINTER, "a Git LFS pointer", "git lfs pull"),
    "annex": (b"/annex/objects/SHA256E-s9--ab.jsonl\n", "a git-annex pointer", "git annex get"),
    "html": (HTML, "an HTML page", "download"),
    "store-error": (ERROR_PAGE, "error page of an object store (NoSuchKey)", "download"),
    "xml": (b'<?xml version="1.0"?><rows><row id="1"/></rows>', "XML", "Parquet or JSONL"),
    "xz": (lzma.compress(LINES), "xz data", "xz -d"),
    "zip": (archive("zip"), "a zip archive", "unpack"),
    "tar": (archive("tar"), "a tar archive", "unpack"),
    "tar-gz": (gzip.compress(archive("tar")), "files, not of rows compressed with gzip", "unpack"),
    "twice": (gzip.compress(gzip.compress(LINES)), "gzip data compressed with gzip", "once"),
    "parquet-gz": (gzip.compress(parquet()), "a Parquet file compressed with gzip", "decompress"),
    "array-gz": (gzip.compress(ARRAY), "a JSON array compressed with gzip", "jq -c '.[]'"),
    "orc": (orc(), "an ORC file", "Parquet"),
    "avro": (b"Obj\x01\x04\x16avro.schema", "an Avro file", "Parquet"),
    "arrow": (feather(), "an Arrow IPC (Feather) file", "write_table"),
    "feather-1": (b"FEA1" + bytes(90), "a Feather file, version 1", "Parquet"),
    "encrypted": (b"PARE" + b"\x12" * 90 + b"PARE", "an encrypted footer", "encryption"),
    "sqlite": (b"SQLite format 3\x00" + bytes(90), "an SQLite database", "Parquet"),
    "nul": (bytes(100_000), "a file of NUL bytes", "replace"),
    "binary": (bytes(range(256)) * 9, "binary data", "Parquet or JSONL"),
    "broken": (b'{"id": 1, "text": "a\n{"id": 2, "te\n', "broken JSON", "complete object"),
    **{
        name: (LINES.decode().encode(name), f"{kind} text", "iconv -f")
        for name, kind in {
            "utf-16": "UTF-16", "utf-32": "UTF-32", "utf-16-le": "UTF-16LE",
            "utf-16-be": "UTF-16BE", "utf-32-le": "UTF-32LE", "utf-32-be": "UTF-32BE",
        }.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz", "in.parquet"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_the_error_for_unsupported_content_names_it_and_the_cure(
    tmp_path: Path, name: str, kind: str
) -> None:
    content, what, cure = FOREIGN[kind]
    with pytest.raises(InputError) as caught:
        read_all(put(tmp_path, name, content))
    message = caught.value.message
    assert message.startswith(f"{name} is ")
    assert message.endswith("or skip the file with --skip-bad-files.")
    assert caught.value.path == str(tmp_path / name)
    as_parquet = name == "in.parquet" and "not a Parquet file: it begins with" in message
    assert as_parquet or (what in message and cure.lower() in message.lower()), message
    assert message.isascii()
    assert "\n" not in message


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"[1, 2]\n" + LINES, id="a-list-in-the-first-line"),
        pytest.param(b'{"id": 1, "text": \n' + LINES, id="a-broken-first-line"),
        pytest.param(b'{"id": 1, "text": "a\n' + LINES, id="an-unfinished-string"),
        pytest.param(b"# a comment\n" + LINES, id="a-comment"),
        pytest.param(b"id,text\n" + LINES, id="a-header-of-csv"),
        pytest.param(LINES + bytes(4096), id="nul-bytes-at-the-end"),
    ],
)
def test_a_line_that_is_not_a_row_does_not_fail_the_file(tmp_path: Path, content: bytes) -> None:
    _, (batch,) = read_all(put(tmp_path, "in.jsonl", content))
    assert len(batch.bad) == 1
    good = [text for offset, text in enumerate(batch.texts) if offset not in batch.bad]
    assert good == [row["text"] for row in ROWS]


def test_a_first_row_may_be_longer_than_the_inspected_bytes(tmp_path: Path) -> None:
    rows = [{"id": 0, "text": "x" * 200_000, "tags": {"a": [1]}}, ROWS[1]]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    _, (batch,) = read_all(put(tmp_path, "in.jsonl", content))
    assert batch.texts == [row["text"] for row in rows]


def test_the_content_decides_over_the_format_flag(tmp_path: Path) -> None:
    from support.inputs import PLAIN, find_files

    from bulkembed.transforms.inputs.filesystems import open_found
    from bulkembed.transforms.inputs.input_files import scan_file

    put(tmp_path, "rows", parquet())
    (found,) = find_files([str(tmp_path / "rows")], "jsonl")
    scanned = scan_file(open_found(found), found, PLAIN)
    assert (scanned.rows, scanned.found.format) == (40, "parquet")
