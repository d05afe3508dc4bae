"""`--id-name`: the id keeps its own name in the output, and every command finds it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import bulkembed, dead_codes, parts, read, run

from bulkembed.emulator.server import EmulatorServer

FLAGS = ("--id-column", "sku", "--id-name", "sku", "--keep-columns", "*", "--dim", 128)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    texts = [f"a dog {n}" for n in range(40)] + [None]
    skus = [f"s{n}" for n in range(40)] + ["s-blank"]
    table = pa.table({"sku": skus, "text": texts, "price": range(41)})
    pq.write_table(table, folder / "a.parquet")
    return folder


def test_all_commands_find_the_id_by_its_name(
    tmp_path: Path, source: Path, server: EmulatorServer
) -> None:
    output = tmp_path / "out"
    ended = run(server.url, source, output, *FLAGS, "--unit-rows", 15)
    assert ended.code == 0, ended.err
    table = read(output)
    assert table.schema.names[:2] == ["sku", "vector"]
    assert "id" not in table.schema.names
    assert table["sku"].to_pylist() == [f"s{n}" for n in range(40)]
    assert read(output, "dead_letters")["sku"].to_pylist() == ["s-blank"]
    service = ("--base-url", server.url)
    verified = bulkembed("verify", output, "--against", source, "--sample", 5, *service)
    assert verified.code == 0, verified.out
    found = json.loads(bulkembed("search", output, "a dog", "--json", *service).out)
    assert set(found["rows"][0]) >= {"sku", "score"}
    assert "sku" in bulkembed("search", output, "a dog", *service).out
    assert run(server.url, source, output, *FLAGS, "--retry-failed").code == 0
    assert dead_codes(output) == {40: "blank_text"}
    assert bulkembed("report", output).code == 0
    page = (output / "_run/report.html").read_text()
    assert "s-blank" in page
    before = parts(output, "vectors")
    assert run(server.url, source, output, *FLAGS).code == 0
    assert parts(output, "vectors") == before


def test_rows_are_merged_pruned_and_synchronised_by_it(tmp_path: Path, source: Path) -> None:
    output = tmp_path / "out"
    table = pq.read_table(source / "a.parquet")
    for at in range(3):
        pq.write_table(table.slice(5 * at, 5), source / f"{at}.parquet")
    (source / "a.parquet").unlink()
    assert run(None, source, output, *FLAGS).code == 0
    merged = bulkembed("compact", output)
    assert merged.code == 0, merged.err
    assert len(parts(output, "vectors")) == 1
    assert read(output)["sku"].to_pylist() == [f"s{n}" for n in range(15)]
    assert bulkembed("verify", output, "--against", source).code == 0
    (source / "2.parquet").rename(source / "renamed.parquet")
    moved = run(None, source, output, *FLAGS)
    assert moved.code == 2
    assert "5 ids" in moved.err
    pruned = run(None, source, output, *FLAGS, "--prune")
    assert pruned.code == 0, pruned.err
    assert sorted(read(output)["sku"].to_pylist()) == sorted(f"s{n}" for n in range(15))
    assert bulkembed("verify", output, "--against", source).code == 0
    listed = bulkembed("changes", output, "--format", "jsonl")
    assert listed.code == 0, listed.err
    assert listed.out == ""  # Rows that only moved did not change.
    pq.write_table(table.slice(20, 1), source / "3.parquet")
    assert run(None, source, output, *FLAGS).code == 0
    (change,) = map(json.loads, bulkembed("changes", output, "--format", "jsonl").out.splitlines())
    assert (change["sku"], change["change"]) == ("s20", "added")


def test_duplicate_ids_are_counted_and_named(tmp_path: Path, source: Path) -> None:
    output = tmp_path / "out"
    table = pq.read_table(source / "a.parquet")
    pq.write_table(table.slice(0, 2), source / "b.parquet")
    ended = run(None, source, output, *FLAGS)
    assert ended.code == 0, ended.err
    assert "2 rows with the id of an earlier row" in ended.out
    verified = bulkembed("verify", output)
    assert verified.code == 1
    assert "id 's0'" in verified.out


def test_passages_have_the_name_too(tmp_path: Path, source: Path) -> None:
    output = tmp_path / "out"
    ended = run(None, source, output, *FLAGS, "--long-text", "passages")
    assert ended.code == 0, ended.err
    assert read(output).schema.names[:5] == ["sku", "passage", "start", "end", "vector"]
    assert bulkembed("verify", output, "--against", source).code == 0


def test_an_empty_dataset_has_the_name(tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out"
    source.write_text('{"sku": "a", "text": null}\n')
    assert run(None, source, output, *FLAGS).code == 0
    assert pq.read_schema(output / "vectors/empty.parquet").names[0] == "sku"


def test_another_name_is_another_layout(tmp_path: Path, source: Path) -> None:
    output = tmp_path / "out"
    assert run(None, source, output, *FLAGS).code == 0
    ended = run(None, source, output, *FLAGS[:2], *FLAGS[4:])
    assert ended.code == 2
    assert "id_name is 'sku' in the dataset" in ended.err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param("vector", "--id-name 'vector': the output has its own columns", id="own"),
        pytest.param("text", "--id-name 'text': the output has its own columns", id="dead-letters"),
        pytest.param("run_id", "--id-name 'run_id': the output has its own", id="provenance"),
        pytest.param(" ", "--id-name ' '", id="blank"),
        pytest.param("price", "has the name of one of the output's", id="kept"),
    ],
)
def test_a_name_that_is_taken_is_rejected(
    tmp_path: Path, source: Path, name: str, words: str
) -> None:
    flags = ("--id-column", "sku", "--id-name", name, "--keep-columns", "*")
    ended = run(None, source, tmp_path / "out", *flags)
    assert (ended.code, words in ended.err) == (2, True), ended.err
