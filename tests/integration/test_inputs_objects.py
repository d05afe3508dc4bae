"""JSONL files whose lines hold more than one object, or none: no row is lost, none moves."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.inputs import PLAIN, read_all, scan_all

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.inputs import OBJECTS
from bulkembed.transforms.inputs import jsonl_lines
from bulkembed.transforms.inputs.columns import merge_schemas
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import ScannedFile, read_batches

MARK = b"\xef\xbb\xbf"


def row(number: int, text: str = "a text") -> bytes:
    return json.dumps({"id": number, "text": text}, ensure_ascii=False).encode()


def rows(count: int, between: bytes) -> bytes:
    return between.join(row(n, f"text é {n} }}{{ \\n") for n in range(count))


def put(folder: Path, content: bytes) -> ScannedFile:
    (folder / "in.jsonl").write_bytes(content)
    (scanned,) = scan_all(folder)
    return scanned


def read(scanned: ScannedFile, *ranges: tuple[int, int]) -> list[Any]:
    schema = merge_schemas([scanned], PLAIN)
    filesystem = open_found(scanned.found)
    return list(read_batches(filesystem, scanned.input_file, PLAIN, schema, ranges))


@pytest.mark.parametrize(
    "between",
    [b"", b" ", b"\r", b"\r\r", b"\t", MARK, b"\r" + MARK, b"\x1e", b" \r\n", b"\n" + MARK],
    ids=ascii,
)
@pytest.mark.parametrize("end", [b"", b"\n", b"\r", MARK], ids=ascii)
def test_each_object_is_a_row_whatever_separates_them(
    tmp_path: Path, between: bytes, end: bytes
) -> None:
    scanned = put(tmp_path, rows(40, between) + end)
    assert scanned.rows == 40
    (batch,) = read(scanned, (0, 40))
    assert batch.ids.to_pylist() == list(range(40))
    assert batch.texts == [f"text é {n} }}{{ \\n" for n in range(40)]
    assert batch.bad == {}


def test_files_joined_by_cat_lose_no_row(tmp_path: Path) -> None:
    files = [b"\n".join(row(n) for n in range(k, k + 10)) for k in range(0, 40, 10)]
    for content in (b"".join(files), b"".join(MARK + file for file in files)):
        (batch,) = read(put(tmp_path, content), (0, 40))
        assert batch.ids.to_pylist() == list(range(40))
        assert batch.bad == {}


def test_rows_of_ordinary_files_keep_their_numbers_and_the_file_its_key(tmp_path: Path) -> None:
    lines = [
        row(0),
        b"broken",
        b'{"id": 1} trailing',
        b"[1, 2]",
        b'"x"',
        b'{"id": 2,\r"text": "b"}',
    ]
    lines += [MARK + row(3), b"", b" \r", row(4) + b"\r", b"{" + row(5)]
    scanned = put(tmp_path, b"\n".join(lines))
    assert scanned.reading == ""
    (batch,) = read(scanned, (0, scanned.rows))
    assert batch.ids.to_pylist() == [0, None, None, None, None, 2, 3, 4, None]
    assert set(batch.bad) == {1, 2, 3, 4, 8}


def test_a_file_that_was_read_by_lines_before_gets_another_key(tmp_path: Path) -> None:
    """Its rows have other numbers now: what was committed under the old ones must not count."""
    scanned = put(tmp_path, row(0) + b"\n" + row(1) + row(2))
    assert scanned.reading == OBJECTS
    as_before = ScannedFile.from_json({**scanned.to_json(), "reading": "", "rows": 2})
    assert as_before.input_file.key != scanned.input_file.key


@pytest.mark.parametrize(
    ("line", "ids", "bad"),
    [
        pytest.param(row(1) + b"oops" + row(2), [None], {0}, id="words-behind-an-object"),
        pytest.param(row(1) + row(2) + b"oops", [1, None], {1}, id="words-behind-the-last"),
        pytest.param(row(1) + row(2)[:-4], [1, None], {1}, id="the-last-one-cut-short"),
        pytest.param(
            row(1) + b"\roops\r" + row(2), [1, None, 2], {1}, id="a-bad-line-among-lines-of-cr"
        ),
        pytest.param(row(1) + b"\r[1,\r2]\r" + row(2), [1, None, 2], {1}, id="a-list-over-cr"),
        pytest.param(MARK, [], set(), id="a-mark-alone"),
        pytest.param(b"\x1e" + row(1), [1], set(), id="json-text-sequence"),
        pytest.param(
            b'{"id": 1, "text": "\xff"}' + row(2), [None, 2], {0}, id="no-utf8-in-the-first"
        ),
    ],
)
def test_text_that_is_not_an_object_fails_one_row_and_no_other(
    tmp_path: Path, line: bytes, ids: list[int | None], bad: set[int]
) -> None:
    scanned = put(tmp_path, row(0) + b"\n" + line + b"\n" + row(9))
    (batch,) = read(scanned, (0, scanned.rows))
    assert batch.ids.to_pylist() == [0, *ids, 9]
    assert set(batch.bad) == {offset + 1 for offset in bad}
    assert {code for code, _ in batch.bad.values()} <= {DeadCode.BAD_JSON}


PIECES = st.sampled_from((
    row(1), row(2, "é"), b"", b"\n", b"\r", b"\r\n", b" ", MARK, b"oops", b"[1]", b"{", b"}",
    b'{"id": 3, "text": "\xff"}', b'{"id": 4,\r"text": "b"}', b'"a"', b"1", b"NaN", b"\x1e",
))  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([row(1), row(1), b"\r"], 1)
@given(st.lists(PIECES, max_size=30), st.integers(1, 5))
def test_reading_from_any_row_gives_the_same_rows(
    tmp_path: Path, pieces: list[bytes], stride: int
) -> None:
    content = row(0) + b"\n" + b"".join(pieces)
    every = list(jsonl_lines.objects(io.BytesIO(content)))
    for number in range(0, len(every), stride):
        _, begin, _ = every[number]
        stream = io.BytesIO(content)
        stream.seek(begin)
        rest = [(at, piece) for _, at, piece in jsonl_lines.objects(stream, begin)]
        assert all(content[at : at + len(piece)] == piece for at, piece in rest)
        # White space behind a row that ends its line may come with it.
        expected = [(at, piece.rstrip()) for _, at, piece in every[number:]]
        assert [(at, piece.rstrip()) for at, piece in rest] == expected
    scanned = put(tmp_path, content)
    (batch,) = read(scanned, (0, scanned.rows))
    if scanned.reading == OBJECTS:
        assert scanned.rows == len(every)
    assert batch.rows == scanned.rows


def test_ranges_beyond_the_saved_offsets_are_found_in_one_line(tmp_path: Path) -> None:
    scanned = put(tmp_path, rows(4500, b""))
    assert (scanned.rows, len(scanned.offsets)) == (4500, 5)
    ranges = [(0, 10), (999, 3), (2500, 100), (4499, 1)]
    for first_row, count in ranges:
        (alone,) = read(scanned, (first_row, count))
        assert alone.ids.to_pylist() == list(range(first_row, first_row + count))
    together = read(scanned, *ranges)
    assert [batch.ids.to_pylist() for batch in together] == [[*range(a, a + n)] for a, n in ranges]


def test_an_endless_line_is_yielded_some_objects_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl_lines, "LONG_LINE_BYTES", 1000)
    monkeypatch.setattr(jsonl_lines, "CHUNK_BYTES", 100)
    for between in (b"", b"\r"):
        content = rows(300, between)
        (tmp_path / "in.jsonl").write_bytes(content)
        sizes = []
        with (tmp_path / "in.jsonl").open("rb") as stream:
            for _, begin, line in jsonl_lines.lines(stream):
                assert content[begin : begin + len(line)] == line
                sizes.append(len(line))
        assert len(sizes) > 10
        assert max(sizes) < 2100
        _, (batch,) = read_all(tmp_path)
        assert batch.ids.to_pylist() == list(range(300))
        assert batch.bad == {}
    long = row(1, "x" * 50_000) + b"\n" + row(2)
    assert put(tmp_path, long).reading == ""
