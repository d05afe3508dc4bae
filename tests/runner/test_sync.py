"""`--sync`: the dataset mirrors its input, row by row."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.catalogues import catalogue, from_nothing, loaded, sync, write_export
from support.cli import bulkembed, read, run, snapshot, summary

from bulkembed.emulator.server import EmulatorServer
from bulkembed.transforms.dataset.layout import REFUSAL


def test_a_night_costs_its_difference(server: EmulatorServer, tmp_path: Path) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    rows = catalogue()
    assert sync(server, write_export(source, rows), output).code == 0
    assert server.stats()["texts"] == 60
    rows["p3"] = ("another text", 3)
    rows["p4"] = ("product 4", 1000)
    rows["new"] = ("product 7", 1)
    rows["newer"] = ("something new", 1)
    del rows["p5"], rows["p6"]
    ended = sync(server, write_export(source, rows, seed=1, files=2), output)
    assert ended.code == 0, ended.err
    assert server.stats()["texts"] == 62
    assert server.stats()["texts_paid_twice"] == 0
    found = loaded(output)
    assert {name for name, _ in found} == rows.keys()
    assert found == from_nothing(source, tmp_path / "other")
    assert "56 unchanged, 2 new, 2 changed (1 only in kept columns), 2 deleted" in ended.out
    assert "60 in: 60 embedded" in ended.out
    last = summary(output)
    assert last["dataset"]["embedded"] == 60
    assert last["run"]["rows_in"] == 4
    assert not list((output / "_run/staged").iterdir())
    verified = bulkembed("verify", output, "--against", source)
    assert verified.code == 0, verified.out
    status = bulkembed("status", output).out
    assert "60 in: 60 embedded" in status
    assert "2 deleted" in status


def test_a_shuffled_export_without_a_change_changes_nothing(
    server: EmulatorServer, tmp_path: Path
) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    assert sync(server, write_export(source, catalogue()), output).code == 0
    before = snapshot(output)
    assert sync(server, write_export(source, catalogue(), seed=4, files=5), output).code == 0
    assert snapshot(output) == before
    assert server.stats()["texts"] == 60


def test_blank_and_failed_rows_are_sent_once(server: EmulatorServer, tmp_path: Path) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    rows = catalogue(20)
    rows["blank"], rows["null"] = (" ", 1), (None, 1)
    rows["long"] = ("word " * 30_000, 1)
    settings = ("--long-text", "dead-letter", "--max-dead-letters", 5)
    first = sync(server, write_export(source, rows), output, *settings)
    assert first.code == 0, first.err
    calls = server.stats()["calls"]
    before = snapshot(output)
    second = sync(server, write_export(source, rows, seed=2), output, *settings)
    assert second.code == 0, second.err
    assert server.stats()["calls"] == calls
    assert snapshot(output) == before
    rows["blank"] = ("no more", 1)
    rows["p1"] = ("", 1)
    assert sync(server, write_export(source, rows, seed=3), output, *settings).code == 0
    assert server.stats()["texts"] == 21
    assert set(read(output, "dead_letters")["id"].to_pylist()) == {"long", "null", "p1"}
    assert "blank" in read(output)["id"].to_pylist()
    assert bulkembed("verify", output, "--against", source).code == 0
    retried = sync(server, source, output, *settings, "--retry-failed")
    assert retried.code == 0, retried.err
    assert "1 failed before" in retried.out
    again = sync(server, source, output, *settings, "--retry-failed")
    assert again.code == 0, again.err
    assert set(read(output, "dead_letters")["id"].to_pylist()) == {"long", "null", "p1"}
    assert bulkembed("verify", output, "--against", source).code == 0


LONG = "\n\n".join(f"Paragraph {n} of a long text, with some words in it." for n in range(60))


@pytest.mark.parametrize("mode", ["passages", "mean"])
def test_long_texts_are_compared_as_a_whole(
    server: EmulatorServer, tmp_path: Path, mode: str
) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    settings = ("--long-text", mode, "--passage-tokens", 40)
    rows = catalogue(12)
    rows["long"], rows["other"] = (LONG, 1), (LONG + " The end.", 2)
    rows["wide"] = (f"  {' ' * 300}short{' ' * 300}", 1)
    first = sync(server, write_export(source, rows), output, *settings)
    assert first.code == 0, first.err
    before, calls = snapshot(output), server.stats()["calls"]
    assert sync(server, write_export(source, rows, seed=2), output, *settings).code == 0
    assert snapshot(output) == before
    assert server.stats()["calls"] == calls
    rows["long"] = (LONG.replace("Paragraph 30", "Another one"), 1)
    rows["other"] = (rows["other"][0], 7)
    assert sync(server, write_export(source, rows, seed=3), output, *settings).code == 0
    assert loaded(output) == from_nothing(source, tmp_path / "other", *settings)
    if mode == "passages":
        assert server.stats()["texts_paid_twice"] == 0
    verified = bulkembed("verify", output, "--against", source, "--sample", 10)
    assert verified.code == 0, verified.out


def test_rows_without_an_id_are_dead_letters(server: EmulatorServer, tmp_path: Path) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    write_export(source, catalogue(5))
    table = pa.table(
        {
            "id": pa.nulls(3, pa.string()),
            "text": ["same", "same", "other"],
            "price": pa.array([1, 1, 1]),
        }
    )
    pq.write_table(table, source / "none.parquet")
    assert sync(server, source, output, "--max-dead-letters", 5).code == 0
    before = snapshot(output)
    (source / "none.parquet").rename(source / "also-none.parquet")
    assert sync(server, source, output, "--max-dead-letters", 5).code == 0
    assert snapshot(output) == before
    pq.write_table(table.slice(1), source / "also-none.parquet")
    assert sync(server, source, output, "--max-dead-letters", 5).code == 0
    assert len(read(output, "dead_letters")) == 2
    assert bulkembed("verify", output, "--against", source).code == 0


def test_too_many_deletes_are_refused(server: EmulatorServer, tmp_path: Path) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    rows = catalogue()
    assert sync(server, write_export(source, rows), output).code == 0
    half = {name: row for name, row in rows.items() if int(name[1:]) % 2}
    half["new"] = ("new", 1)
    before, calls = snapshot(output), server.stats()["calls"]
    ended = sync(server, write_export(source, half, seed=1), output)
    assert ended.code == 3
    assert "would delete 30 of 60 rows" in ended.last
    assert snapshot(output, without=REFUSAL) == before
    assert server.stats()["calls"] == calls
    write_export(source, {}, seed=2)
    ended = sync(server, source, output)
    assert ended.code == 3, ended.err
    assert snapshot(output, without=REFUSAL) == before
    assert sync(server, write_export(source, half, seed=1), output, "--max-delete", "50%").code == 0
    assert {name for name, _ in loaded(output)} == half.keys()
    assert sync(server, write_export(source, {}, seed=2), output, "--max-delete", "100%").code == 0
    assert not read(output).num_rows


def test_repeated_ids_are_refused_or_the_last_counts(
    server: EmulatorServer, tmp_path: Path
) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    source.mkdir()
    for name, ids, texts in (("a", ["x", "y", "x"], "abc"), ("b", ["z", "y"], "de")):
        table = pa.table({"id": ids, "text": list(texts), "price": [1] * len(ids)})
        pq.write_table(table, source / f"{name}.parquet")
    ended = sync(server, source, output)
    assert ended.code == 2
    assert "2 rows" in ended.last
    assert "'x' in row 0 of a.parquet and in row 2 of a.parquet" in ended.last
    assert "'y' in row 1 of a.parquet and in row 1 of b.parquet" in ended.last
    assert not server.stats()["calls"]
    assert not output.exists() or not (output / "vectors").exists()
    ended = sync(server, source, output, "--unique-ids", "last")
    assert ended.code == 0, ended.err
    assert server.stats()["texts"] == 3
    table = read(output)
    found = zip(table["id"].to_pylist(), table["source_file"].to_pylist(), strict=True)
    assert dict(found) == {"x": "a.parquet", "y": "b.parquet", "z": "b.parquet"}
    assert "2 with a repeated id left out" in ended.out
    assert bulkembed("verify", output, "--against", source).code == 0


@pytest.mark.parametrize(
    "option",
    ["--generate-ids", "--prune", "--limit-rows=5", "--skip-bad-files", "--dedupe=unit"],
)
def test_options_that_contradict_are_refused(
    server: EmulatorServer, tmp_path: Path, option: str
) -> None:
    ended = sync(server, write_export(tmp_path / "in", catalogue(3)), tmp_path / "out", option)
    assert ended.code == 2
    assert option.split("=")[0] in ended.last
    assert not server.stats()["calls"]


def test_the_kinds_of_datasets_are_not_mixed(server: EmulatorServer, tmp_path: Path) -> None:
    output, source = tmp_path / "out", write_export(tmp_path / "in", catalogue(3))
    plain = ("--dim", 128, "--keep-columns", "price")
    assert run(server.url, source, output, *plain).code == 0
    ended = sync(server, source, output)
    assert ended.code == 2
    assert ended.last.endswith(f" --reuse {output}")
    words = shlex.split(ended.last[ended.last.index("bulkembed run") :])
    assert bulkembed(*words[1:]).code == 0
    (tmp_path / "out-2").rename(tmp_path / "mirror")
    assert server.stats()["texts"] == 3
    ended = run(server.url, source, tmp_path / "mirror", *plain)
    assert ended.code == 2
    assert "Add --sync. Or" in ended.last
    assert ended.last.endswith(
        f"--output {tmp_path}/mirror-2 {' '.join(words[6:8])} "
        f"--dim 128 --keep-columns price --reuse {tmp_path}/mirror"
    )


def test_a_night_that_was_stopped_is_resumed(server: EmulatorServer, tmp_path: Path) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    rows = catalogue()
    assert sync(server, write_export(source, rows), output).code == 0
    for n in range(30):
        rows[f"p{n}"] = (f"changed {n}", n)
    del rows["p50"]
    price = ("--price-usd-per-mtok", 1, "--concurrency", 1, "--unit-rows", 4)
    spent = 0.0002
    stopped = sync(
        server, write_export(source, rows, seed=1), output, *price, "--max-cost-usd", spent
    )
    assert stopped.code == 4, stopped.err
    status = bulkembed("status", output).out
    assert "incomplete" in status
    assert "29 unchanged, 0 new, 30 changed, 1 to delete" in status
    assert "59 in: " in status
    assert sync(server, write_export(source, rows, seed=2), output, *price).code == 0
    assert server.stats()["texts"] == 90
    assert server.stats()["texts_paid_twice"] == 0
    assert loaded(output) == from_nothing(source, tmp_path / "other")


def test_an_estimate_reads_the_difference(server: EmulatorServer, tmp_path: Path) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    rows = catalogue(20)
    assert sync(server, write_export(source, rows), output).code == 0
    rows["p3"], rows["p4"] = ("another text", 3), ("product 4", 9)
    before = snapshot(output)
    fixed = ("--sync", "--dim", 128, "--keep-columns", "price", "--base-url", server.url)
    write_export(source, rows, seed=1)
    ended = bulkembed("estimate", "--input", source, "--output", output, *fixed, "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert found["rows"] == {"in": 20, "left": 2, "due": 2}
    assert found["texts"]["value"] == 1
    assert snapshot(output) == before


def test_an_estimate_names_the_files_of_the_export(server: EmulatorServer, tmp_path: Path) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    rows = catalogue()
    assert sync(server, write_export(source, rows), output).code == 0
    rows["p3"] = ("a much longer text than all others " * 3, 3)
    export = write_export(source, rows, seed=1, files=2)
    fixed = ("--sync", "--dim", 128, "--keep-columns", "price", "--base-url", server.url)
    ended = bulkembed("estimate", "--input", export, "--output", output, *fixed, "--json")
    assert ended.code == 0, ended.err
    longest = json.loads(ended.out)["longest"][0]
    ids = pq.read_table(export / longest["file"])["id"]
    assert ids[longest["row"]].as_py() == "p3"


def test_merged_parts_lose_rows_as_others_do(server: EmulatorServer, tmp_path: Path) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    rows = catalogue()
    rows["blank"] = (" ", 1)
    assert sync(server, write_export(source, rows), output).code == 0
    assert bulkembed("compact", output).code == 0
    before = snapshot(output)
    assert sync(server, source, output).code == 0
    assert snapshot(output) == before
    rows["p3"], rows["p4"], rows["new"] = ("another text", 3), ("product 4", 99), ("new", 1)
    del rows["p5"], rows["blank"]
    ended = sync(server, write_export(source, rows, seed=1), output)
    assert ended.code == 0, ended.err
    assert server.stats()["texts"] == 62
    assert loaded(output) == from_nothing(source, tmp_path / "other")
    verified = bulkembed("verify", output, "--against", source)
    assert verified.code == 0, verified.out
    found = bulkembed("changes", output, "--format", "jsonl")
    assert found.code == 0, found.err
    lines = [json.loads(line) for line in found.out.splitlines()]
    changes = {line["id"]: (line["change"], line["vector_changed"]) for line in lines}
    assert changes == {
        "p3": ("changed", True),
        "p4": ("changed", False),
        "p5": ("deleted", True),
        "new": ("added", True),
    }


def test_a_check_against_the_input_finds_each_difference(
    server: EmulatorServer, tmp_path: Path
) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    rows = catalogue(20)
    assert sync(server, write_export(source, rows), output).code == 0
    rows["p3"], rows["p4"], rows["new"] = ("another text", 3), ("product 4", 99), ("new", 1)
    del rows["p5"]
    verified = bulkembed("verify", output, "--against", write_export(source, rows, files=1))
    assert verified.code == 1
    for problem in (
        "1 row missing in the dataset",
        "1 row with another text",
        "1 row with other kept columns",
        "that the input does not have",
    ):
        assert problem in " ".join(verified.out.split()), verified.out


def test_lost_records_are_rebuilt(server: EmulatorServer, tmp_path: Path) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    rows = catalogue(30)
    assert sync(server, write_export(source, rows), output).code == 0
    rows["p3"], rows["p4"] = ("another text", 3), ("one more", 4)
    assert sync(server, write_export(source, rows, seed=1), output).code == 0
    before = loaded(output)
    for record in (output / "_run/units").iterdir():
        record.unlink()
    assert sync(server, source, output).code == 1
    repaired = bulkembed("verify", "--repair", output)
    assert repaired.code == 0, repaired.err
    verified = bulkembed("verify", output, "--against", source)
    assert verified.code == 0, verified.out
    assert sync(server, source, output).code == 0
    assert loaded(output) == before
    assert server.stats()["texts"] == 32
