"""`bulkembed changes`: the difference between two complete states of a dataset."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import Ended, bulkembed, read, run

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.pipeline.changes import net_changes

Rows = dict[str, tuple[str, str]]
"""Text and language by id."""


def write(path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {
            "id": list(rows),
            "text": [text for text, _ in rows.values()],
            "lang": [lang for _, lang in rows.values()],
        }
    )
    pq.write_table(table, path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "in/a.parquet", {f"a{n}": (f"text {n}", "en") for n in range(6)})
    write(tmp_path / "in/b.parquet", {f"b{n}": (f"other {n}", "en") for n in range(3)})
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def go(server: EmulatorServer, folder: Path, out: Path, *args: object) -> Ended:
    ended = run(
        server.url, folder, out, "--dim", 128, "--keep-columns", "lang", "--unit-rows", 4, *args
    )
    assert ended.code == 0, ended.err
    return ended


def changes(out: Path, *args: object) -> dict[str, dict[str, Any]]:
    ended = bulkembed("changes", out, "--format", "jsonl", *args)
    assert ended.code == 0, ended.err
    rows = [json.loads(line) for line in ended.out.splitlines()]
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: row for row in rows}


def kinds(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {one: row["change"] for one, row in found.items()}


def state_id(out: Path) -> str:
    return str(json.loads(bulkembed("parts", out, "--json").out)["run_id"])


def check_places(out: Path, found: dict[str, dict[str, Any]]) -> None:
    """Each place that is listed has the row of that id."""
    for one, row in found.items():
        if row["change"] == "deleted":
            assert row["part"] is row["row"] is None
            continue
        at = pq.read_table(out / row["part"]).slice(row["row"], 1).to_pylist()[0]
        assert (at["id"], at["text_hash"].hex()) == (one, row["text_hash"])


def test_the_changes_of_a_run_are_those_of_its_rows(
    server: EmulatorServer, folder: Path, out: Path
) -> None:
    ended = go(server, folder, out)
    assert "\nchanges" not in ended.out
    first = state_id(out)
    assert set(kinds(changes(out)).values()) == {"added"}
    write(
        folder / "a.parquet",
        {
            "a5": ("text 5", "en"),  # Moved within the file.
            "a1": ("text 1 edited", "en"),
            "a2": ("text 2", "de"),
            "a3": ("text 3", "en"),
            "a9": ("text 9", "en"),
        },
    )
    ended = go(server, folder, out)
    assert "1 added, 2 changed, 2 deleted" in ended.out
    found = changes(out)
    want = {"a0": "deleted", "a1": "changed", "a2": "changed", "a4": "deleted", "a9": "added"}
    assert kinds(found) == want
    assert {one for one, row in found.items() if not row["vector_changed"]} == {"a2"}
    check_places(out, found)
    assert changes(out, "--since", first) == found
    shown = bulkembed("status", out).out
    assert f"1 added, 2 changed, 2 deleted (run {state_id(out)})" in shown
    assert changes(out, "--since", state_id(out)) == {}


def test_the_net_changes_of_several_runs_leave_out_what_came_and_went(
    server: EmulatorServer, folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(server, folder, out)
    first = state_id(out)
    write(folder / "c.parquet", {"c0": ("short-lived", "en"), "c1": ("stays", "en")})
    go(server, folder, out)
    write(folder / "c.parquet", {"c1": ("stays, edited", "en")})
    write(folder / "b.parquet", {"b0": ("other 0", "en"), "b1": ("other 1", "en")})
    go(server, folder, out)
    write(folder / "b.parquet", {f"b{n}": (f"other {n}", "de") for n in range(3)})
    go(server, folder, out)
    found = changes(out, "--since", first)
    want = {"c1": "added", "b0": "changed", "b1": "changed", "b2": "changed"}
    assert kinds(found) == want
    assert {one for one, row in found.items() if row["vector_changed"]} == {"c1", "b2"}
    check_places(out, found)
    assert kinds(changes(out)) == {"b0": "changed", "b1": "changed", "b2": "added"}
    monkeypatch.setattr(net_changes, "partitions_for", lambda rows, row_bytes: 8)
    assert changes(out, "--since", first) == found


def test_renamed_and_shuffled_files_are_no_change(
    server: EmulatorServer, folder: Path, out: Path
) -> None:
    go(server, folder, out)
    rows = {f"a{n}": (f"text {n}", "en") for n in reversed(range(6))}
    rows |= {f"b{n}": (f"other {n}", "en") for n in range(3)}
    for path in folder.iterdir():
        path.unlink()
    write(folder / "all.parquet", rows)
    ended = go(server, folder, out, "--prune")
    assert "0 added, 0 changed, 0 deleted" in ended.out
    assert changes(out) == {}
    assert len(read(out)) == 9


def test_rows_that_a_compaction_moved_are_found_in_their_new_part(
    server: EmulatorServer, folder: Path, out: Path
) -> None:
    go(server, folder, out)
    first = state_id(out)
    write(folder / "c.parquet", {f"c{n}": (f"new {n}", "en") for n in range(10)})
    go(server, folder, out)
    before = kinds(changes(out, "--since", first))
    assert bulkembed("compact", out).code == 0
    found = changes(out, "--since", first)
    assert kinds(found) == before == {f"c{n}": "added" for n in range(10)}
    check_places(out, found)
    assert changes(out, "--since", state_id(out)) == {}
    with_vectors = changes(out, "--since", first, "--with-vectors")
    assert {row["lang"] for row in with_vectors.values()} == {"en"}


def test_changes_are_written_with_vectors_in_each_format(
    server: EmulatorServer, folder: Path, out: Path, tmp_path: Path
) -> None:
    go(server, folder, out)
    (folder / "b.parquet").unlink()
    write(folder / "c.parquet", {"c0": ('a "quoted", text', "en")})
    go(server, folder, out, "--prune", "--max-delete", "50%")
    table = read(out)
    row = next(row for row in table.to_pylist() if row["id"] == "c0")
    vector = np.array(row["vector"], np.float32)
    target = tmp_path / "changes.parquet"
    assert bulkembed("changes", out, "--with-vectors", "--output", target).code == 0
    found = {row["id"]: row for row in pq.read_table(target).to_pylist()}
    assert kinds(found) == {"c0": "added", "b0": "deleted", "b1": "deleted", "b2": "deleted"}
    np.testing.assert_array_equal(np.array(found["c0"]["vector"], np.float32), vector)
    assert found["b0"]["vector"] is found["b0"]["lang"] is None
    lines = changes(out, "--with-vectors")
    np.testing.assert_array_equal(np.array(lines["c0"]["vector"], np.float32), vector)
    ended = bulkembed("changes", out, "--with-vectors", "--format", "csv")
    by_id = {row["id"]: row for row in csv.DictReader(io.StringIO(ended.out))}
    np.testing.assert_array_equal(np.array(json.loads(by_id["c0"]["vector"]), np.float32), vector)
    assert by_id["b0"]["vector"] == by_id["b0"]["part"] == ""
    assert by_id["c0"]["vector_changed"] == "true"
    shown = bulkembed("changes", out)
    assert "1 added, 0 changed, 3 deleted" in shown.out
    assert "deleted                 b0" in shown.out


def test_lists_of_many_parts_have_few_row_groups(
    server: EmulatorServer, folder: Path, out: Path, tmp_path: Path
) -> None:
    go(server, folder, out, "--unit-rows", 1)
    assert len(list((out / "vectors").iterdir())) > 5
    (feed,) = (out / "_run/changes").iterdir()
    assert bulkembed("changes", out, "--output", tmp_path / "changes.parquet").code == 0
    for path in (feed, tmp_path / "changes.parquet"):
        assert pq.read_metadata(path).num_row_groups == 1


def test_changes_that_are_not_known_say_what_to_do(
    server: EmulatorServer, folder: Path, out: Path
) -> None:
    go(server, folder, out)
    first = state_id(out)
    for since in ("yesterday", "2026-13-01"):
        ended = bulkembed("changes", out, "--since", since)
        assert ended.code == 2
        assert "Use the id of a run" in ended.last
    ended = bulkembed("changes", out, "--since", "2020-01-01")
    assert ended.code == 2
    assert "Load the whole dataset again" in ended.last
    go(server, folder, out, "--overwrite")
    ended = bulkembed("changes", out, "--since", first)
    assert ended.code == 2, ended.out
    assert "Load the whole dataset again" in ended.last
    assert set(kinds(changes(out)).values()) == {"added"}


def test_a_damaged_part_of_the_last_state_begins_the_list_again(
    server: EmulatorServer, folder: Path, out: Path
) -> None:
    go(server, folder, out)
    first = state_id(out)
    next(iter((out / "vectors").glob("*.parquet"))).write_bytes(b"PAR1")
    ended = go(server, folder, out)
    assert "cannot be listed" in ended.err
    for since in ((), ("--since", first)):  # An empty list would say that nothing was changed.
        ended = bulkembed("changes", out, *since)
        assert ended.code == 2, ended.out
        assert "Load the whole dataset again" in ended.last
    assert changes(out, "--since", state_id(out)) == {}


def test_a_trial_is_no_complete_state(server: EmulatorServer, folder: Path, out: Path) -> None:
    go(server, folder, out, "--limit-rows", 4)
    ended = go(server, folder, out)
    assert "cannot be listed" not in ended.err
    assert set(kinds(changes(out)).values()) == {"added"}


def test_a_compaction_right_after_a_run_is_no_other_state(
    server: EmulatorServer, folder: Path, out: Path
) -> None:
    go(server, folder, out)
    before = state_id(out)
    assert bulkembed("compact", out).code == 0
    assert state_id(out) == before
    write(folder / "c.parquet", {"c0": ("new", "en")})
    go(server, folder, out)
    assert kinds(changes(out, "--since", before)) == {"c0": "added"}


def test_the_changes_of_a_dataset_without_a_manifest_are_not_known(
    server: EmulatorServer, folder: Path, out: Path
) -> None:
    go(server, folder, out)
    run_id = state_id(out)
    # As an earlier version left it.
    (out / "_run/manifest.json").unlink()
    for path in (out / "_run/changes").iterdir():
        path.unlink()
    for _ in range(2):
        for since in ((), ("--since", "2020-01-01")):
            ended = bulkembed("changes", out, *since)
            assert ended.code == 2, ended.out
            assert "Load the whole dataset again" in ended.last
        assert changes(out, "--since", run_id) == {}
        go(server, folder, out)
    write(folder / "c.parquet", {"c0": ("new", "en")})
    go(server, folder, out)
    assert kinds(changes(out)) == kinds(changes(out, "--since", run_id)) == {"c0": "added"}


def test_an_unknown_complete_state_is_not_taken_for_an_empty_one(
    server: EmulatorServer, folder: Path, out: Path
) -> None:
    go(server, folder, out)
    write(folder / "b.parquet", {"b9": ("other 9", "en")})
    flags = ("--dim", 128, "--keep-columns", "lang", "--unit-rows", 4, "--retry-timeout", "0.1s")
    with EmulatorServer(EmulatorSettings(script=("503",) * 100)) as failing:
        assert run(failing.url, folder, out, *flags).code == 75
    # As an earlier version left it.
    (out / "_run/manifest.json").unlink()
    for path in (out / "_run/changes").iterdir():
        path.unlink()
    ended = go(server, folder, out)
    assert "cannot be listed" in ended.err
    assert bulkembed("changes", out).code == 2
    # A dataset whose first run was incomplete has an empty state before it.
    other = out.with_name("other")
    with EmulatorServer(EmulatorSettings(script=("503",) * 100)) as failing:
        assert run(failing.url, folder, other, *flags).code == 75
    go(server, folder, other)
    assert set(kinds(changes(other)).values()) == {"added"}


def test_a_changed_byte_in_the_list_of_changes_is_noticed(
    server: EmulatorServer, folder: Path, out: Path
) -> None:
    go(server, folder, out)
    (feed,) = (out / "_run/changes").iterdir()
    data = feed.read_bytes()
    ids = pq.ParquetFile(feed).metadata.row_group(0).column(0)
    end = ids.dictionary_page_offset or ids.data_page_offset
    at = end + ids.total_compressed_size - 2
    feed.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    ended = bulkembed("changes", out, "--format", "jsonl")
    assert ended.code == 1, ended.out
    assert str(feed.name) in ended.last


def test_a_time_stands_for_the_state_at_that_time(
    server: EmulatorServer, folder: Path, out: Path
) -> None:
    go(server, folder, out)
    write(folder / "c.parquet", {"c0": ("new", "en")})
    go(server, folder, out)
    manifest = json.loads((out / "_run/manifest.json").read_bytes())
    first, second = (one["time"] for one in manifest["changes"])
    assert kinds(changes(out, "--since", first)) == {"c0": "added"}
    assert changes(out, "--since", second) == {}


def test_passages_of_a_changed_row_are_all_listed(
    server: EmulatorServer, tmp_path: Path, out: Path
) -> None:
    folder = tmp_path / "in"
    words = " ".join(f"word{n}" for n in range(60))
    args = ("--long-text", "passages", "--passage-tokens", 30, "--passage-overlap", 0)
    write(folder / "a.parquet", {"x": (words, "en"), "y": ("short", "en")})
    go(server, folder, out, *args)
    write(folder / "a.parquet", {"x": (words + " end", "en"), "y": ("short", "en")})
    go(server, folder, out, *args)
    ended = bulkembed("changes", out, "--format", "jsonl")
    rows = [json.loads(line) for line in ended.out.splitlines()]
    table = read(out)
    passages = [row["passage"] for row in table.to_pylist() if row["id"] == "x"]
    assert len(passages) > 1
    assert [(row["id"], row["passage"]) for row in rows] == [("x", n) for n in sorted(passages)]
    assert {row["change"] for row in rows} == {"changed"}


def test_a_renamed_id_column_has_its_name_in_the_changes(
    server: EmulatorServer, tmp_path: Path, out: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"sku": 7, "text": "seven"}\n')
    ended = run(server.url, folder, out, "--dim", 128, "--id-column", "sku", "--id-name", "sku")
    assert ended.code == 0, ended.err
    ended = bulkembed("changes", out, "--format", "jsonl", "--with-vectors")
    (row,) = [json.loads(line) for line in ended.out.splitlines()]
    assert (row["sku"], row["change"], len(row["vector"])) == (7, "added", 128)


def test_an_id_that_another_file_still_has_is_not_deleted(
    server: EmulatorServer, folder: Path, out: Path
) -> None:
    go(server, folder, out)
    (folder / "b.parquet").rename(folder / "c.parquet")
    ended = go(server, folder, out, "--missing-files", "keep")
    assert "0 added, 3 changed, 0 deleted" in ended.out
    assert "3 rows with the id of an earlier row" in ended.out
    ended = go(server, folder, out, "--prune")
    assert "0 added, 3 changed, 0 deleted" in ended.out
    assert "earlier row" not in ended.out
    found = changes(out)
    assert kinds(found) == {f"b{n}": "changed" for n in range(3)}
    check_places(out, found)
    assert {row["id"] for row in read(out).to_pylist()} >= set(found)


def test_only_some_columns_are_written_in_their_order(
    server: EmulatorServer, folder: Path, out: Path, tmp_path: Path
) -> None:
    go(server, folder, out)
    names = ["lang", "id", "vector", "change"]
    target = tmp_path / "changes.csv"
    assert bulkembed("changes", out, "--columns", ",".join(names), "--output", target).code == 0
    rows = list(csv.reader(target.read_text().splitlines()))
    assert rows[0] == names
    assert {row[1] for row in rows[1:]} == set(read(out)["id"].to_pylist())
    assert all(len(json.loads(row[2])) == 128 for row in rows[1:])
    few = changes(out, "--columns", "id,change")
    assert all(row == {"id": one, "change": "added"} for one, row in few.items())
    ended = bulkembed("changes", out, "--columns", "id,chang", "--format", "csv")
    assert ended.code == 2
    assert "no column 'chang'. Did you mean change?" in ended.last
    assert bulkembed("changes", out, "--columns", "id").code == 2
