"""The manifest: which parts readers may open, and when superseded parts are deleted."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.cli import Ended, bulkembed, parts, read, run, write_rows

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings


def go(server: EmulatorServer, folder: Path, out: Path, *args: object) -> Ended:
    return run(server.url, folder, out, "--dim", 128, "--unit-rows", 10, *args)


def listed(out: Path) -> list[Path]:
    """The parts that `bulkembed parts` names."""
    ended = bulkembed("parts", out)
    assert ended.code == 0, ended.err
    return [Path(line) for line in ended.out.splitlines()]


def texts_of(paths: list[Path]) -> list[int]:
    return sorted(n for path in paths for n in pq.read_table(path)["source_row"].to_pylist())


def test_the_parts_of_the_last_complete_state_stay_until_the_next_one(
    source: Path, output: Path
) -> None:
    with EmulatorServer() as server:
        assert go(server, source.parent, output).code == 0
    first = listed(output)
    assert first == parts(output, "vectors")
    write_rows(source, [f"other {n}" for n in range(25)])
    settings = EmulatorSettings(retired=("gemini-embedding-001",))
    with EmulatorServer(settings) as server:
        assert go(server, source.parent, output).code == 1
    with EmulatorServer() as server:
        ended = go(server, source.parent, output, "--limit-rows", 20)
        assert ended.code == 0, ended.err
        assert not (output / "_SUCCESS").exists()
        assert listed(output) == first
        assert texts_of(first) == sorted([*range(25), 0, 1])
        assert go(server, source.parent, output).code == 0
    now = listed(output)
    assert now == parts(output, "vectors")
    assert len(set(now) & set(first)) == 1
    assert len(read(output)) == 27
    assert bulkembed("verify", output, "--repeated-ids").code == 0


def test_superseded_parts_stay_on_request_until_another_run_is_complete(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    assert go(server, source.parent, output).code == 0
    first = listed(output)
    write_rows(source, [f"other {n}" for n in range(25)])
    assert go(server, source.parent, output, "--keep-superseded").code == 0
    second = listed(output)
    assert all(path.exists() for path in [*first, *second])
    assert len(texts_of(second)) == 27
    assert set(parts(output, "vectors")) == {*first, *second}
    # A run with nothing to do changes nothing.
    assert go(server, source.parent, output).code == 0
    assert set(parts(output, "vectors")) == {*first, *second}
    for args in (("--repair",), ("--repeated-ids",)):
        ended = bulkembed("verify", output, *args)
        assert ended.code == 0, ended.out
    assert set(parts(output, "vectors")) == {*first, *second}
    write_rows(source, [f"third {n}" for n in range(25)])
    assert go(server, source.parent, output).code == 0
    assert listed(output) == parts(output, "vectors")
    assert len(read(output)) == 27


def test_parts_are_listed_with_their_rows_and_sizes(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    assert go(server, source, output).code == 0
    found = json.loads(bulkembed("parts", output, "--json").out)
    assert found["run_id"] == json.loads((output / "_run/manifest.json").read_bytes())["run_id"]
    assert [one["rows"] for one in found["parts"]] == [10, 10, 5]
    assert [one["size_bytes"] for one in found["parts"]] == [
        path.stat().st_size for path in parts(output, "vectors")
    ]


def test_a_dataset_without_a_complete_state_has_no_parts_to_list(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    assert go(server, source, output, "--limit-rows", 10).code == 0
    ended = bulkembed("parts", output)
    assert ended.code == 2
    assert "no run has completed it yet" in ended.last
    assert bulkembed("parts", output.parent / "nowhere").code == 2


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format_version": 1}'])
def test_a_damaged_manifest_costs_the_list_of_changes_only(
    server: EmulatorServer, source: Path, output: Path, content: bytes
) -> None:
    assert go(server, source.parent, output).code == 0
    manifest = output / "_run/manifest.json"
    manifest.write_bytes(content)
    assert bulkembed("verify", output, "--repeated-ids").code == 1
    write_rows(source, [f"other {n}" for n in range(25)])
    ended = go(server, source.parent, output)
    assert ended.code == 0, ended.err
    assert "manifest.json" in ended.err
    assert listed(output) == parts(output, "vectors")
    assert bulkembed("verify", output, "--repeated-ids").code == 0


def test_repair_moves_a_damaged_manifest_aside(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    assert go(server, source.parent, output).code == 0
    (output / "_run/manifest.json").write_bytes(b"[")
    assert "_run/manifest.json: moved" in bulkembed("verify", output, "--repair").out
    assert bulkembed("verify", output, "--repeated-ids").code == 0
    assert listed(output) == parts(output, "vectors")
