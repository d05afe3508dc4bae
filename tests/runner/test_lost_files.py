"""Missing or truncated files of a dataset: embedded again or rejected, never ignored."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.cli import Ended, bulkembed, dead_codes, parts, read, run, snapshot, write_rows

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

pytestmark = pytest.mark.faults


def go(server: EmulatorServer, source: object, output: Path, *args: object) -> Ended:
    return run(server.url, source, output, "--dim", 128, "--unit-rows", 10, *args)


@pytest.fixture
def complete(server: EmulatorServer, source: Path, output: Path) -> Path:
    """Return a complete dataset of 27 rows in four units."""
    assert go(server, source.parent, output).code == 0
    assert (output / "_SUCCESS").exists()
    return output


@pytest.mark.parametrize("damage", [Path.unlink, lambda part: part.write_bytes(b"PAR1")])
def test_a_damaged_part_of_a_complete_dataset_is_embedded_again(
    server: EmulatorServer, source: Path, complete: Path, damage: Callable[[Path], object]
) -> None:
    whole = read(complete)
    damage(next(part for part in parts(complete, "vectors") if "-00000010" in part.name))
    ended = go(server, source.parent, complete)
    assert ended.code == 0, ended.err
    assert "parts of 10 rows are missing or have another size" in ended.err
    assert server.stats()["texts"] == 27 + 10
    assert read(complete).equals(whole)
    assert (complete / "_SUCCESS").exists()


@pytest.mark.parametrize("damage", [Path.unlink, lambda part: part.write_bytes(b"PAR1")])
def test_damaged_dead_letters_do_not_cost_the_vectors_of_their_unit(
    source: Path, output: Path, damage: Callable[[Path], object]
) -> None:
    write_rows(source, ["poison", "a", "b", "c"])
    with EmulatorServer(EmulatorSettings(poison="poison")) as server:
        assert go(server, source, output).code == 0
        whole, dead = read(output), dead_codes(output)
        damage(*parts(output, "dead_letters"))
        ended = go(server, source, output)
        assert ended.code == 0, ended.err
        assert server.stats()["texts"] == 3
    assert "parts of 4 rows are missing" in ended.err
    assert read(output).equals(whole)
    assert dead_codes(output) == dead
    assert bulkembed("verify", output).code == 0


@pytest.mark.parametrize("damage", [Path.unlink, lambda part: part.write_bytes(b"PAR1")])
def test_a_damaged_part_that_a_retry_kept_is_embedded_again(
    source: Path, output: Path, damage: Callable[[Path], object]
) -> None:
    write_rows(source, ["poison", "a", "b", "c"])
    with EmulatorServer(EmulatorSettings(poison="poison")) as server:
        assert go(server, source, output).code == 0
    with EmulatorServer() as server:
        assert go(server, source, output, "--retry-failed").code == 0
        first = next(part for part in parts(output, "vectors") if "-g1" not in part.name)
        damage(first)
        ended = go(server, source, output)
        assert ended.code == 0, ended.err
    assert "parts of 4 rows are missing" in ended.err
    assert read(output)["source_row"].to_pylist() == [0, 1, 2, 3]
    assert bulkembed("verify", output).code == 0


def test_rows_without_part_and_input_are_reported_and_can_be_pruned(
    server: EmulatorServer, source: Path, complete: Path
) -> None:
    (lost,) = [part for part in parts(complete, "vectors") if "-00000002" in part.name]
    lost.unlink()
    (source.parent / "b.parquet").unlink()
    write_rows(source.parent / "c.parquet", ["new"])
    ended = go(server, source.parent, complete)
    assert ended.code == 0, ended.err
    assert "parts of 2 rows are missing" in ended.err
    assert "remove the rows with --prune" in ended.err
    assert go(server, source.parent, complete, "--prune").code == 0
    assert server.stats()["texts"] == 27 + 1
    assert len(read(complete)) == 26
    assert bulkembed("verify", complete, "--repeated-ids").code == 0


def lose_all_of_run(output: Path) -> None:
    shutil.rmtree(output / "_run")


def lose_run_and_success(output: Path) -> None:
    shutil.rmtree(output / "_run")
    (output / "_SUCCESS").unlink()


def lose_run_json(output: Path) -> None:
    (output / "_run/run.json").unlink()
    (output / "_run/run.copy.json").unlink()


@pytest.mark.parametrize("dim", [128, 256])
@pytest.mark.parametrize("lose", [lose_all_of_run, lose_run_and_success, lose_run_json])
def test_a_dataset_without_its_pinned_settings_is_rejected_and_not_changed(
    server: EmulatorServer, source: Path, complete: Path, lose: Callable[[Path], None], dim: int
) -> None:
    lose(complete)
    before, texts = snapshot(complete), server.stats()["texts"]
    for more in ((), ("--retry-failed",), ("--prune",)):
        ended = run(server.url, source.parent, complete, "--dim", dim, *more)
        assert ended.code == 2, ended.err
        assert "_run/run.json, which has their settings, is missing" in ended.last
        assert "--overwrite" in ended.last
        assert snapshot(complete) == before
    assert server.stats()["texts"] == texts
    ended = run(server.url, source.parent, complete, "--dim", dim, "--overwrite")
    assert ended.code == 0, ended.err
    assert bulkembed("verify", complete, "--repeated-ids").code == 0
