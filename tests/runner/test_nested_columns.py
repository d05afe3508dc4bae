"""Nested fields as id, text, title and kept columns through whole runs and the other commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.cli import bulkembed, dead_codes, read, run

from bulkembed.emulator.server import EmulatorServer

FLAGS = ("--id-column", "_id.$oid", "--title-column", "doc.title", "--keep-columns", "doc.n,doc")
ROWS = [
    {"_id": {"$oid": f"65f0{n:04x}"}, "doc": {"title": "T", "body": f"a dog {n}", "n": n}}
    for n in range(40)
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rows = [*ROWS, {"_id": {"$oid": "65f1"}, "doc": {"title": "T", "body": None}}]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_nested_fields_through_run_verify_search_and_report(
    tmp_path: Path, source: Path, server: EmulatorServer
) -> None:
    output = tmp_path / "out"
    flags = (*FLAGS, "--text-column", "doc.body", "--dim", 128)
    estimated = bulkembed("estimate", "--input", source, *flags, "--json")
    assert json.loads(estimated.out)["rows"]["due"] == 41, estimated.err
    ended = run(server.url, source, output, *flags, "--unit-rows", 15)
    assert ended.code == 0, ended.err
    table = read(output)
    assert table["id"].to_pylist() == [row["_id"]["$oid"] for row in ROWS]
    assert table["doc.n"].to_pylist() == list(range(40))
    assert dead_codes(output) == {40: "blank_text"}
    service = ("--base-url", server.url)
    verified = bulkembed("verify", output, "--against", source, "--sample", 6, *service)
    assert verified.code == 0, verified.out
    found = json.loads(bulkembed("search", output, "a dog 3", "--json", *service).out)
    assert found["rows"][0]["id"] in table["id"].to_pylist()
    assert run(server.url, source, output, *flags, "--retry-failed").code == 0
    assert read(output).equals(table)
    report = bulkembed("report", output)
    assert report.code == 0, report.err
    assert "a dog 3" in (output / "_run/report.html").read_text()


def test_a_nested_text_is_cut_into_passages_and_may_be_kept(tmp_path: Path) -> None:
    long = "A dog barks at night. " * 40
    source, output = tmp_path / "in.jsonl", tmp_path / "out"
    source.write_text(json.dumps({"id": 1, "doc": {"body": long}}) + "\n")
    ended = run(
        None, source, output, "--text-column", "doc.body", "--keep-columns", "doc.body",
        "--long-text", "passages", "--passage-tokens", 50, "--dim", 128,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    table = read(output)
    assert table.num_rows > 1
    places = zip(table["start"].to_pylist(), table["end"].to_pylist(), strict=True)
    assert table["doc.body"].to_pylist() == [long[start:end] for start, end in places]
    assert bulkembed("verify", output, "--against", source).code == 0
    assert bulkembed("report", output).code == 0
