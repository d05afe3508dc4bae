"""Each bad input has a clear answer, and nothing else is lost."""

from __future__ import annotations

import bz2
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import Ended, dead_codes, parts, read, run, summary, write_rows

from bulkembed.emulator.server import EmulatorServer


def zstd(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


PACK = {"gz": gzip.compress, "bz2": bz2.compress, "zst": zstd}


def lines(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


MANY = lines(*({"id": n, "text": f"text {n} {n * 7919}"} for n in range(2000)))


def go(server: EmulatorServer, folder: Path, *args: object) -> Ended:
    return run(server.url, folder, folder.parent / "out", "--dim", 128, *args)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one good file."""
    write_rows(tmp_path / "in/good.parquet", ["one", "two"])
    return tmp_path / "in"


def cut_parquet(tmp_path: Path) -> bytes:
    whole = write_rows(tmp_path / "whole.parquet", ["x"] * 500).read_bytes()
    return whole[: len(whole) // 2]


def stop_sentence(ended: Ended, server: EmulatorServer, *words: str) -> None:
    assert ended.code in (1, 2)
    assert server.stats()["calls"] == 0
    assert "Traceback" not in ended.err
    for word in words:
        assert word in ended.last


@pytest.mark.parametrize("name", ["cut.parquet", *(f"cut.jsonl.{kind}" for kind in PACK)])
def test_a_file_cut_in_half_stops_the_job_before_anything_is_spent_or_is_skipped(
    server: EmulatorServer, folder: Path, name: str
) -> None:
    kind = name.rsplit(".", 1)[1]
    data = cut_parquet(folder.parent) if kind == "parquet" else PACK[kind](MANY)
    (folder / name).write_bytes(data if kind == "parquet" else data[: len(data) // 2])
    stop_sentence(go(server, folder), server, name)
    ended = go(server, folder, "--skip-bad-files")
    assert ended.code == 0
    assert name in ended.out
    assert read(folder.parent / "out")["source_file"].to_pylist() == ["good.parquet"] * 2
    assert any(name in line for line in summary(folder.parent / "out")["skipped_files"])


@pytest.mark.parametrize("kind", PACK)
def test_several_members_in_one_file_are_all_read(
    server: EmulatorServer, folder: Path, kind: str
) -> None:
    data = b"".join(PACK[kind](lines({"id": n, "text": f"t{n}"})) for n in range(3))
    (folder / f"x.jsonl.{kind}").write_bytes(data)
    assert go(server, folder).code == 0
    assert read(folder.parent / "out")["id"].to_pylist() == [0, 1, 0, 1, 2]


@pytest.mark.parametrize("name", ["empty.jsonl", "empty.jsonl.gz", "empty.parquet"])
def test_an_empty_file_is_no_rows_or_no_parquet(
    server: EmulatorServer, folder: Path, name: str
) -> None:
    (folder / name).write_bytes(b"")
    ended = go(server, folder)
    if name != "empty.parquet":
        assert ended.code == 0
        assert len(read(folder.parent / "out")) == 2
    else:
        stop_sentence(ended, server, name)


def test_a_file_without_the_column_is_named_with_those_it_has(
    server: EmulatorServer, folder: Path
) -> None:
    pq.write_table(pa.table({"id": [1], "body": ["x"]}), folder / "other.parquet")
    stop_sentence(go(server, folder), server, "other.parquet", "'text'", "'id', 'body'")


@pytest.mark.parametrize(
    ("column", "values"), [("text", [[1], [2]]), ("text", [1, 2]), ("id", [[1], [2]])]
)
def test_a_column_of_the_wrong_type_is_named_with_its_type(
    server: EmulatorServer, folder: Path, column: str, values: list[Any]
) -> None:
    table = {"id": [1, 2], "text": ["x", "y"], column: values}
    pq.write_table(pa.table(table), folder / "other.parquet")
    stop_sentence(go(server, folder), server, "other.parquet", column)


def test_ids_of_two_types_name_both_files_and_the_way_out(
    server: EmulatorServer, folder: Path
) -> None:
    pq.write_table(pa.table({"id": ["a"], "text": ["x"]}), folder / "strings.parquet")
    stop_sentence(go(server, folder), server, "good.parquet", "strings.parquet", "--id-type string")
    assert go(server, folder, "--id-type", "string").code == 0
    assert read(folder.parent / "out")["id"].to_pylist() == ["0", "1", "a"]


def test_a_broken_line_is_a_dead_letter_and_its_neighbours_are_embedded(
    server: EmulatorServer, folder: Path
) -> None:
    (folder / "good.parquet").unlink()
    rows = [
        b'{"id": 0, "text": "fine"}', b'{"id": 1, "text": ', b"[1, 2]", b'"words"',
        b'{"text": "no id"}', b'{"id": 5}', b'{"id": 6, "text": null}',
        b'{"id": 7, "text": ["a"]}', b'{"id": 8, "text": "\\ud800 alone"}',
        b'{"id": [9], "text": "x"}', b'{"id": 10, "text": "caf\xe9"}', b'{"id": 11, "text": "end"}',
    ]  # fmt: skip
    (folder / "a.jsonl").write_bytes(b"\n".join(rows))
    ended = go(server, folder)
    assert ended.code == 0, ended.err
    output = folder.parent / "out"
    assert read(output)["id"].to_pylist() == [0, 11]
    assert dead_codes(output) == {
        1: "bad_json", 2: "bad_json", 3: "bad_json", 4: "missing_id", 5: "blank_text",
        6: "blank_text", 7: "bad_text", 8: "bad_text", 9: "bad_id", 10: "bad_json",
    }  # fmt: skip
    assert summary(output)["dataset"] == {
        "rows_in": 12, "embedded": 2, "dead": 8, "skipped": 2, "left": 0,
    }  # fmt: skip


def test_a_byte_order_mark_and_windows_line_ends_are_no_trouble(
    server: EmulatorServer, folder: Path
) -> None:
    data = MANY[: MANY.index(b"\n", 100) + 1].replace(b"\n", b"\r\n")
    (folder / "bom.jsonl").write_bytes(b"\xef\xbb\xbf" + data)
    assert go(server, folder).code == 0
    assert dead_codes(folder.parent / "out") == {}
    assert len(read(folder.parent / "out")) == 2 + data.count(b"\n")


def test_every_kind_of_character_is_sent_exactly_as_it_is(
    server: EmulatorServer, folder: Path
) -> None:
    texts = [
        "nul\x00inside", "emoji 👩‍👩‍👧‍👦", "מימין לשמאל", "e\u0301 and é", "\u200bzero width",
        "long " * 100_000, '"quotes" \\ and {braces}', "\ufefftext", " spaces around ",
    ]  # fmt: skip
    write_rows(folder / "good.parquet", texts)
    ended = go(server, folder, "--keep-columns", "text")
    assert ended.code == 0, ended.err
    assert read(folder.parent / "out")["text"].to_pylist() == texts
    assert dead_codes(folder.parent / "out") == {}
    assert server.stats()["texts"] == len(texts)


def test_no_rows_at_all_is_success_and_an_empty_dataset_with_its_schema(
    server: EmulatorServer, tmp_path: Path
) -> None:
    write_rows(tmp_path / "in/a.parquet", [])
    (tmp_path / "in/b.jsonl").write_bytes(b"\n\n")
    ended = go(server, tmp_path / "in")
    assert ended.code == 0
    assert "0 in: 0 embedded" in ended.out
    assert server.stats()["calls"] == 0
    (part,) = parts(tmp_path / "out", "vectors")
    assert pq.read_table(part).num_rows == 0
    assert (tmp_path / "out/_SUCCESS").exists()


def test_a_file_of_which_all_rows_fail_never_ends_with_success(
    server: EmulatorServer, folder: Path
) -> None:
    mongo = [{"_id": {"$oid": f"65f0c0ffee{n:014x}"}, "text": f"text {n}"} for n in range(8)]
    (folder / "a.jsonl").write_bytes(lines(*mongo))
    (folder / "good.parquet").unlink()
    for _ in range(2):  # The same command again finds nothing left to do.
        ended = go(server, folder, "--id-column", "_id")
        assert ended.code == 3, ended.err
        assert "no row was embedded and 8 rows failed" in ended.last
        assert not (folder.parent / "out/_SUCCESS").exists()
    (folder / "b.jsonl").write_bytes(lines(*({"_id": n, "text": "b"} for n in range(40))))
    ended = go(server, folder, "--id-column", "_id", "--output", folder.parent / "out2")
    assert ended.code == 3, ended.err
    assert "a.jsonl: no row was embedded" in ended.last
    assert not (folder.parent / "out2/_SUCCESS").exists()


def test_a_run_that_finds_no_text_warns_that_nothing_was_embedded(
    server: EmulatorServer, folder: Path
) -> None:
    write_rows(folder / "good.parquet", [None] * 40, content=["x"] * 40)
    ended = go(server, folder)
    assert ended.code == 0
    assert "nothing was embedded: all 40 texts are null" in ended.err
    assert "--text-column" in ended.out
    write_rows(folder / "good.parquet", ["x", None])
    assert "nothing" not in go(server, folder).err


def test_nothing_matched_names_the_pattern(server: EmulatorServer, tmp_path: Path) -> None:
    ended = run(server.url, f"{tmp_path}/**/*.parquet", tmp_path / "out")
    assert ended.code == 2
    assert f"{tmp_path}/**/*.parquet" in ended.last


def test_an_output_inside_the_input_is_rejected(server: EmulatorServer, folder: Path) -> None:
    ended = run(server.url, folder, folder / "out", "--dim", 128)
    assert ended.code == 2
    assert server.stats()["calls"] == 0
    assert not (folder / "out").exists()


def test_what_lies_beside_the_input_is_told_of_in_log_and_summary(
    server: EmulatorServer, folder: Path
) -> None:
    (folder / "_e.jsonl").write_bytes(lines({"id": 5, "text": "five"}))
    (folder / "table.avro").write_bytes(b"Obj\x01")
    (folder / "c.json").write_bytes(lines({"id": 3, "text": "three"}))
    write_rows(folder / "b.parq", ["four"])
    ended = go(server, folder)
    assert ended.code == 0
    assert "ignored: _e.jsonl, table.avro" in ended.err
    assert "ignored" in ended.out
    output = folder.parent / "out"
    assert summary(output)["passed_over"] == ["_e.jsonl", "table.avro"]
    assert sorted(read(output)["source_file"].to_pylist()) == [
        "b.parq", "c.json", "good.parquet", "good.parquet",
    ]  # fmt: skip


def test_a_table_is_rejected_and_its_files_are_read_by_a_flag(
    server: EmulatorServer, folder: Path
) -> None:
    (folder / "_delta_log").mkdir()
    for pattern in (folder, folder / "*.parquet", folder / "good.parquet"):
        ended = run(server.url, pattern, folder.parent / "out", "--dim", 128)
        assert ended.code == 2
        stop_sentence(ended, server, "is a Delta table", "--table-files-as-they-are")
    assert go(server, folder, "--table-files-as-they-are").code == 0


def test_a_pattern_that_the_shell_expanded_is_explained(
    server: EmulatorServer, folder: Path
) -> None:
    files = [write_rows(folder / f"{name}.parquet", ["x"]) for name in "abc"]
    ended = run(server.url, files[0], folder.parent / "out", "--dim", 128, *files[1:])
    assert ended.code == 2
    assert "Put it in quotes, as in --input 'in/*.jsonl'" in ended.err


def test_patterns_find_hidden_names_never_and_odd_names_always(
    server: EmulatorServer, folder: Path
) -> None:
    for name in ("a[1].parquet", "mit leer ü.parquet", "deep/er/x.parquet"):
        write_rows(folder / name, ["x"])
    for name in (".hidden.parquet", "_SUCCESS/x.parquet"):
        write_rows(folder / name, ["never"])
    ended = run(server.url, f"{folder}/**/*.parquet", folder.parent / "out", "--dim", 128)
    assert ended.code == 0
    assert sorted(set(read(folder.parent / "out")["source_file"].to_pylist())) == [
        "a[1].parquet", "deep/er/x.parquet", "good.parquet", "mit leer ü.parquet",
    ]  # fmt: skip
