"""The same command again: what is done is kept, what changed is done anew, what is gone is said."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.cli import (
    Ended,
    bulkembed,
    dead_codes,
    matrix,
    parts,
    process,
    read,
    run,
    snapshot,
    summary,
    write_rows,
)
from support.killing import Job, Step, ended, leftovers, wait_for

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.transforms.dataset.dataset import Dataset

pytestmark = pytest.mark.faults

TEXTS = [f"text {n}" for n in range(25)]


def go(server: EmulatorServer, source: object, output: Path, *args: object) -> Ended:
    return run(server.url, source, output, "--dim", 128, *args)


def test_nothing_to_do_takes_a_moment_and_does_not_start_beam(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    assert go(server, source.parent, output).code == 0
    calls, before = server.stats()["calls"], snapshot(output)
    look = (
        "import sys\nfrom bulkembed.pipeline.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert 'apache_beam' not in sys.modules\n"
    )
    args = ("run", "--input", source.parent, "--output", output, "--base-url", server.url)
    started = time.monotonic()
    ended = process(sys.executable, "-c", look, *map(str, args), "--dim", "128")
    assert ended.code == 0, ended.err
    assert time.monotonic() - started < 10
    assert server.stats()["calls"] == calls
    assert snapshot(output) == before


def test_files_touched_copied_or_mounted_elsewhere_pay_nothing(
    server: EmulatorServer, source: Path, output: Path, tmp_path: Path
) -> None:
    assert go(server, source.parent, output).code == 0
    calls = server.stats()["calls"]
    os.utime(source, (1, 1))
    assert go(server, source.parent, output).code == 0
    shutil.copytree(source.parent, tmp_path / "mounted/elsewhere")
    ended = go(server, tmp_path / "mounted/elsewhere", output)
    assert ended.code == 0
    assert server.stats()["calls"] == calls
    assert "27 in: 27 embedded" in ended.out
    assert summary(output)["vanished_files"] == []


def test_a_file_of_known_size_and_mtime_is_not_read_again(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    assert go(server, source.parent, output).code == 0
    stat = source.stat()
    source.write_bytes(b"x" * stat.st_size)
    os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert go(server, source.parent, output).code == 0
    os.utime(source)
    ended = go(server, source.parent, output)
    assert ended.code == 1
    assert "a.parquet" in ended.last


def test_changed_content_is_done_anew_and_the_old_rows_stay_until_then(
    source: Path, output: Path
) -> None:
    with EmulatorServer() as server:
        assert go(server, source.parent, output, "--unit-rows", 10).code == 0
    old = {path.name for path in parts(output, "vectors")}
    write_rows(source, ["poison", *TEXTS[1:20]])
    with EmulatorServer(EmulatorSettings(retired=("gemini-embedding-001",))) as server:
        assert go(server, source.parent, output).code == 1
    assert old <= {path.name for path in parts(output, "vectors")}
    assert len(read(output)) == 27
    with EmulatorServer(EmulatorSettings(poison="poison")) as server:
        assert go(server, source.parent, output).code == 0
        assert server.stats()["texts"] == 0, "texts that are committed already are not sent"
    assert read(output)["source_row"].to_pylist() == [*range(1, 20), 0, 1]
    assert len(old & {path.name for path in parts(output, "vectors")}) == 1
    assert dead_codes(output) == {0: "refused"}
    assert leftovers(output) == []


def test_rows_of_a_file_that_vanished_stay_and_are_told_of_until_they_are_pruned(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    assert go(server, source.parent, output).code == 0
    source.unlink()
    ended = go(server, source.parent, output)
    assert ended.code == 0
    assert "a.parquet: its rows are kept" in ended.out
    assert len(read(output)) == 27
    assert (output / "_SUCCESS").exists()
    pruned = go(server, source.parent, output, "--prune", "--max-delete", "100%")
    assert pruned.code == 0
    assert "a.parquet" not in pruned.out
    assert read(output)["source_file"].to_pylist() == ["b.parquet"] * 2
    assert (output / "_SUCCESS").exists()
    assert server.stats()["texts"] == 27
    assert leftovers(output) == []


@pytest.mark.parametrize("damage", [Path.unlink, lambda part: part.write_bytes(b"")])
def test_a_part_that_is_not_as_it_was_committed_is_done_anew(
    server: EmulatorServer, source: Path, output: Path, damage: Callable[[Path], object]
) -> None:
    assert go(server, source, output, "--unit-rows", 10, "--limit-rows", 20).code == 0
    whole = read(output)
    intact, damaged = parts(output, "vectors")
    before = intact.read_bytes()
    damage(damaged)
    ended = go(server, source, output, "--unit-rows", 10)
    assert ended.code == 0
    assert "parts of 10 rows are missing or have another size" in ended.err
    assert server.stats()["texts"] == 25 + 10
    assert intact.read_bytes() == before
    assert not damaged.exists()
    assert read(output).slice(0, 20).equals(whole)
    assert leftovers(output) == []


def test_a_run_whose_parts_were_damaged_meanwhile_does_not_end_well(
    source: Path, output: Path
) -> None:
    with EmulatorServer(EmulatorSettings(latency_ms=100)) as server:
        job = Job(server, source, output, ("--dim", "128", "--unit-rows", "1", "--concurrency=1"))
        process = job.start()
        dataset = Dataset.open(str(output))
        wait_for(lambda: bool(dataset.state().records) or process.poll() is not None)
        (output / dataset.parts_of(dataset.state().records[0]).vectors[0]).write_bytes(b"")
        done = ended(process)
        assert done.code == 1
        assert "parts of 1 row are missing or have another size" in done.last
        assert not (output / "_SUCCESS").exists()
        assert go(server, source, output).code == 0
        assert server.stats()["texts"] == 25 + 1
    assert len(read(output)) == 25


def test_what_a_lost_worker_left_is_gone_when_its_run_is_complete(
    source: Path, output: Path
) -> None:
    with EmulatorServer(EmulatorSettings(latency_ms=100)) as server:
        job = Job(server, source, output, ("--dim", "128", "--unit-rows", "1", "--concurrency=1"))
        process = job.start()
        wait_for(lambda: bool(parts(output, "vectors")) or process.poll() is not None)
        (output / "vectors/.tmp-0123-part.parquet").write_bytes(b"PAR1")
        assert ended(process).code == 0
    assert leftovers(output) == []
    assert len(read(output)) == 25


def test_the_same_dataset_may_be_gone_on_with_at_another_pace(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    assert go(server, source.parent, output, "--limit-rows", 7, "--unit-rows", 3).code == 0
    args = (
        "--unit-rows",
        4,
        "--concurrency",
        2,
        "--shutdown-timeout",
        "1s",
        "--rpm",
        9000,
        "--timeout",
        9,
    )
    assert go(server, source.parent, output, *args).code == 0
    assert server.stats()["texts_paid_twice"] == 0
    assert len(read(output)) == 27


def test_fresh_starts_anew_and_only_then_deletes(
    server: EmulatorServer, source: Path, output: Path, tmp_path: Path
) -> None:
    assert go(server, source.parent, output).code == 0
    foreign = [
        output / name
        for name in ("notes.txt", "vectors/mine.parquet", "vectors/part-0.parquet", "other/x")
    ]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("not ours")
    before = snapshot(output)
    for args in (
        ("--input", tmp_path / "nothing-*.parquet"),
        ("--text-column", "body"),
        ("--dim", 4000),
        ("--", "--nonsense"),
    ):
        assert go(server, source.parent, output, "--overwrite", *args).code == 2
        assert snapshot(output) == before
    ended = go(server, source.parent, output, "--overwrite", "--dim", 256)
    assert ended.code == 0, ended.err
    assert all(path.read_text() == "not ours" for path in foreign)
    foreign[1].unlink()
    foreign[2].unlink()
    assert matrix(read(output)).shape == (27, 256)
    assert server.stats()["texts"] == 2 * 27


@pytest.fixture
def rejected(source: Path, output: Path) -> Path:
    """A dataset of 27 rows in units of 10, three of them rejected, and two blank."""
    texts: list[str | None] = [*TEXTS]
    texts[3] = texts[17] = texts[18] = "poison"
    texts[4], texts[20] = None, " "
    write_rows(source, texts)
    with EmulatorServer(EmulatorSettings(poison="poison")) as server:
        assert go(server, source.parent, output, "--unit-rows", 10).code == 0
    assert len(dead_codes(output)) == 5
    return output


def generations(output: Path) -> list[int]:
    return sorted(
        json.loads(path.read_bytes())["generation"] for path in (output / "_run/units").iterdir()
    )


def test_dead_letters_tried_again_move_to_the_vectors(
    server: EmulatorServer, source: Path, rejected: Path
) -> None:
    ended = go(server, source.parent, rejected, "--retry-failed")
    assert ended.code == 0, ended.err
    assert "3 in: 3 embedded" in ended.out
    assert server.stats()["texts"] == 2
    assert dead_codes(rejected) == {4: "blank_text", 20: "blank_text"}
    assert sorted(read(rejected)["source_row"].to_pylist()[:23]) == [
        row for row in range(25) if row not in (4, 20)
    ]
    assert generations(rejected) == [0, 0, 1, 1]
    assert leftovers(rejected) == []
    assert (rejected / "_SUCCESS").exists()
    again = go(server, source.parent, rejected, "--retry-failed")
    assert again.code == 0
    assert server.stats()["texts"] == 2


def test_rows_that_are_rejected_again_stay_dead_letters(source: Path, rejected: Path) -> None:
    with EmulatorServer(EmulatorSettings(poison="poison")) as server:
        for generation in (1, 2):
            assert go(server, source.parent, rejected, "--retry-failed").code == 0
            assert generations(rejected) == [0, 0, generation, generation]
        assert server.stats()["texts"] == 0
    assert len(dead_codes(rejected)) == 5
    assert len(read(rejected)) == 22
    assert leftovers(rejected) == []


@pytest.mark.parametrize(
    "step",
    [
        Step("os.remove", ".spill"),
        Step("os.rename", "/vectors/part-"),
        Step("os.rename", "/_run/units/"),
        Step("os.rename", "_SUCCESS"),
    ],
    ids=str,
)
def test_a_retry_that_was_killed_goes_on_and_pays_for_nothing_twice(
    server: EmulatorServer, source: Path, rejected: Path, step: Step
) -> None:
    job = Job(server, source.parent, rejected, ("--dim", "128", "--retry-failed"))
    assert job.finish(step).code == -9
    assert go(server, source.parent, rejected, "--retry-failed").code == 0
    assert server.stats()["texts"] <= 2
    assert dead_codes(rejected) == {4: "blank_text", 20: "blank_text"}
    assert len(read(rejected)) == 25
    assert leftovers(rejected) == []


def test_max_runtime_stops_the_run_cleanly(source: Path, output: Path) -> None:
    write_rows(source, [f"text {n}" for n in range(2000)])
    with EmulatorServer(EmulatorSettings(latency_ms=300)) as server:
        args = ("--unit-rows", 50, "--concurrency", 1)
        ended = go(server, source, output, *args, "--max-runtime", "4s")
        assert ended.code == 75
        assert "--max-runtime was reached" in ended.last
        assert 0 < summary(output)["dataset"]["left"] < 2000
        shown = bulkembed("status", output)
        assert "incomplete" in shown.out
        paid = server.stats()["texts"]
    assert len(read(output)) == paid
