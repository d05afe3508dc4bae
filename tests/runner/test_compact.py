"""`bulkembed compact`: few large files with the same rows, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.cli import Ended, bulkembed, parts, python, read, run, write_rows
from support.damage import findings
from support.killing import leftovers, same_rows
from support.moments import just_before

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.transforms.dataset import output_lock
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.output_lock import LockOwner

FILES = 6
ARGS = ("--dim", "128", "--unit-rows", "4", "--no-report")


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`in` with six files of five rows, one of them blank, and `out` in twelve units."""
    place = tmp_path_factory.mktemp("compact")
    for file in range(FILES):
        texts = [f"text {row} of file {file}" for row in range(5)]
        if file == 2:
            texts[3] = ""
        write_rows(place / f"in/f{file}.parquet", texts, id=[f"{file}-{n}" for n in range(5)])
    with EmulatorServer(EmulatorSettings()) as server:
        assert embed(place, server).code == 0
    return place


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


def embed(place: Path, server: EmulatorServer, *args: object) -> Ended:
    return run(server.url, place / "in", place / "out", *ARGS, *args)


def compact(place: Path, *args: object) -> dict[str, object]:
    ended = bulkembed("compact", place / "out", "--json", *args)
    assert ended.code == 0, ended.err
    return dict(json.loads(ended.out))


def counts(place: Path) -> dict[str, object]:
    status = json.loads(bulkembed("status", place / "out", "--json").out)
    return {name: status[name] for name in ("rows", "vectors", "codes", "counts", "complete")}


def check(place: Path, rows: int) -> None:
    assert findings(place, "--against", place / "in") == []
    assert leftovers(place / "out") == []
    assert len(read(place / "out")) == rows


def test_few_files_have_the_same_rows(place: Path, server: EmulatorServer) -> None:
    before, status = read(place / "out"), counts(place)
    found = compact(place)
    assert (found["parts_before"], found["parts_after"]) == (13, 2)
    assert len(parts(place / "out", "vectors")) == len(parts(place / "out", "dead_letters")) == 1
    assert read(place / "out").equals(before)
    assert counts(place) == status
    check(place, 29)
    ended = embed(place, server)
    assert (ended.code, server.stats()["texts"]) == (0, 0)
    assert "0 to embed" in ended.err


def test_a_second_compaction_has_nothing_to_do(place: Path) -> None:
    compact(place)
    files = sorted((place / "out").rglob("*"))
    assert compact(place)["merged_bytes"] == 0
    shown = bulkembed("compact", place / "out")
    assert "2: nothing to merge" in shown.out
    assert sorted((place / "out").rglob("*")) == files


def test_a_changed_file_is_replaced_within_its_group(place: Path, server: EmulatorServer) -> None:
    compact(place)
    texts = [f"text {row} of file 1" for row in range(4)] + ["a new text"]
    write_rows(place / "in/f1.parquet", texts, id=[f"1-{n}" for n in range(5)])
    assert embed(place, server).code == 0
    assert server.stats()["texts"] == 1
    check(place, 29)
    assert compact(place)["parts_after"] == 2
    check(place, 29)


def rows_in_folder(place: Path) -> Counter[tuple[str, str]]:
    """Return how often a reader of the folder sees each id, by source file."""
    table = read(place / "out")
    return Counter(zip(table["source_file"].to_pylist(), table["id"].to_pylist(), strict=True))


def listed_rows(place: Path) -> list[str]:
    """Return the ids that a reader of the listed parts sees."""
    names = bulkembed("parts", place / "out").out.splitlines()
    return sorted(one for name in names for one in pq.read_table(name)["id"].to_pylist())


def change_two_files(place: Path) -> None:
    for file in (0, 1):
        texts = [f"new text {row} of file {file}" for row in range(5)]
        write_rows(place / f"in/f{file}.parquet", texts, id=[f"{file}-{n}" for n in range(5)])


def test_a_run_that_stops_early_writes_no_group_again(place: Path, server: EmulatorServer) -> None:
    compact(place)
    before, groups = listed_rows(place), parts(place / "out", "vectors")
    change_two_files(place)

    def stop() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)  # The main thread looks every 50 ms.

    with just_before("os.rename", "/_run/units/", stop, number=3):  # A file has two units.
        ended = embed(place, server, "--concurrency", 1)
    assert ended.code == 75, ended.err
    assert listed_rows(place) == before
    rows = rows_in_folder(place)
    assert [rows["f0.parquet", f"0-{n}"] for n in range(5)] == [2] * 5
    assert {count for (file, _), count in rows.items() if file > "f1.parquet"} == {1}
    assert [path for path in parts(place / "out", "vectors") if "group-" in path.name] == groups
    ended = embed(place, server)
    assert ended.code == 0, ended.err
    assert server.stats()["texts_paid_twice"] == 0
    check(place, 29)


INTERRUPTS_ITSELF = """
import os, signal, sys
from bulkembed.pipeline.cli.main import main

def hook(event, args):
    if event == "os.rename" and sys.argv[1] in str(args[1]):
        os.kill(os.getpid(), signal.SIGINT)

sys.addaudithook(hook)
main(sys.argv[2:])
"""
"""`bulkembed`, interrupted just before a file gets a name with the first word."""


@pytest.mark.parametrize("part", ["/_run/units/group-", "/_run/manifest.json"])
def test_a_run_that_is_interrupted_while_it_writes_groups_again_is_resumed(
    place: Path, server: EmulatorServer, part: str
) -> None:
    compact(place)
    before = listed_rows(place)
    change_two_files(place)
    where = ("--input", str(place / "in"), "--output", str(place / "out"))
    words = ("run", *where, "--base-url", server.url, *ARGS)
    ended = python("-c", INTERRUPTS_ITSELF, part, *words)
    assert ended.code == 75, ended.err
    assert ended.last == "bulkembed: Interrupted. Rerun the same command to resume."
    assert listed_rows(place) == before
    assert not (place / "out/_SUCCESS").exists()
    paid = server.stats()["texts"]
    ended = embed(place, server)
    assert ended.code == 0, ended.err
    assert server.stats()["texts"] == paid
    assert set(rows_in_folder(place).values()) == {1}
    check(place, 29)


def test_rows_of_deleted_files_are_pruned_from_their_group(
    place: Path, server: EmulatorServer
) -> None:
    compact(place)
    (place / "in/f2.parquet").unlink()
    ended = embed(place, server, "--prune", "--max-delete", "20%")
    assert ended.code == 0, ended.err
    check(place, 25)
    assert parts(place / "out", "dead_letters") == []


def test_the_ids_of_deleted_files_are_read_from_their_group(
    place: Path, server: EmulatorServer
) -> None:
    compact(place)
    (place / "in/f2.parquet").rename(place / "in/g2.parquet")
    ended = embed(place, server)
    assert ended.code == 2
    assert "5 of their 5 ids are in input files that are not embedded yet" in ended.err


def test_the_option_of_a_run_merges_what_it_has_written(
    place: Path, server: EmulatorServer
) -> None:
    write_rows(place / "in/g.parquet", ["one more"], id=["g-0"])
    ended = embed(place, server, "--target-file-size", "64MB")
    assert ended.code == 0
    assert "parts: 14 before, 2 now" in ended.err
    check(place, 30)


def test_failed_rows_stay_in_files_of_their_own_until_they_are_retried(tmp_path: Path) -> None:
    texts = [f"text {row}" for row in range(12)]
    write_rows(tmp_path / "in/a.parquet", [*texts, "poison"])
    with EmulatorServer(EmulatorSettings(poison="poison")) as server:
        assert embed(tmp_path, server).code == 0
    found = compact(tmp_path)
    assert (found["failed_units"], found["parts_after"]) == (1, 2)
    shown = bulkembed("compact", tmp_path / "out")
    assert "1 unit with failed rows. Run with --retry-failed, then compact again." in shown.out
    with EmulatorServer(EmulatorSettings()) as server:
        assert embed(tmp_path, server, "--retry-failed").code == 0
    assert compact(tmp_path)["parts_after"] == 1
    check(tmp_path, 13)


def test_vectors_of_a_group_are_known_vectors_of_other_files(
    place: Path, server: EmulatorServer
) -> None:
    compact(place)
    texts = [f"text {row} of file {file}" for file in range(2) for row in range(5)]
    write_rows(place / "in/g.parquet", texts, id=[f"g-{n}" for n in range(10)])
    assert embed(place, server).code == 0
    assert server.stats()["texts"] == 0
    check(place, 39)


def test_search_and_report_read_a_group_once(place: Path, server: EmulatorServer) -> None:
    query = ("search", place / "out", "text 1", "--base-url", server.url, "-k", "40", "--json")
    before = json.loads(bulkembed(*query).out)["rows"]
    compact(place)
    after = json.loads(bulkembed(*query).out)["rows"]
    assert len(before) == len(after) == 29
    assert {row["id"] for row in after} == {row["id"] for row in before}
    assert bulkembed("report", place / "out").code == 0


MOMENTS = [
    ("open", "-group-", 1),
    ("os.rename", "/vectors/group-", 1),
    ("os.rename", "/dead_letters/group-", 1),
    ("os.rename", "/_run/units/group-", 1),
    ("os.rename", "_SUCCESS", 1),
]


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda one: f"{one[0]}-{one[1]}-{one[2]}")
@pytest.mark.parametrize("resumed_by", ["compact", "run"])
def test_a_killed_compaction_is_resumed(
    moment: tuple[str, str, int], resumed_by: str, place: Path, server: EmulatorServer
) -> None:
    before = read(place / "out")

    def kill() -> None:
        raise Killed

    with just_before(*moment[:2], kill, moment[2]), pytest.raises(Killed):
        bulkembed("compact", place / "out")
    if resumed_by == "compact":
        assert compact(place)["parts_after"] == 2
    else:
        assert embed(place, server).code == 0
    check(place, 29)
    assert read(place / "out").equals(before)
    assert server.stats()["texts"] == 0
    assert (place / "out/_SUCCESS").exists()


def test_a_second_kill_after_a_group_was_committed_loses_nothing(place: Path) -> None:
    def kill() -> None:
        raise Killed

    for moment in (("os.rename", "_SUCCESS"), ("os.rename", "run.json"), ("os.rename", "_SUCCESS")):
        with just_before(*moment, kill), pytest.raises(Killed):
            bulkembed("compact", place / "out", "--target-file-size", "8KB")
    compact(place)
    check(place, 29)


def test_several_groups_keep_to_the_size(place: Path) -> None:
    found = compact(place, "--target-file-size", "12KB")
    sizes = [path.stat().st_size for path in parts(place / "out", "vectors")]
    assert 2 < len(sizes) < 12
    assert found["parts_after"] == len(sizes) + len(parts(place / "out", "dead_letters"))
    check(place, 29)


def test_readers_of_the_listed_parts_see_the_same_rows_all_the_time(
    place: Path, server: EmulatorServer
) -> None:
    write_rows(place / "in/g.parquet", ["one more"], id=["g-0"])
    before = listed(place)
    ended = embed(place, server, "--target-file-size", "64MB", "--keep-superseded")
    assert ended.code == 0
    between = listed(place)
    assert rows_of(before) == rows_of(between) - 1 == 29
    write_rows(place / "in/h.parquet", ["another"], id=["h-0"])
    assert embed(place, server).code == 0
    assert rows_of(between) == 30
    with just_before("os.rename", "_SUCCESS", lambda: check_rows(between, listed(place))):
        assert compact(place, "--keep-superseded")["parts_after"] == 2
    assert rows_of(between) == 30
    assert rows_of(listed(place)) == 31
    compact(place)
    (place / "in/i.parquet").write_bytes((place / "in/g.parquet").read_bytes())
    assert embed(place, server).code == 0
    assert not any(Path(part).exists() for part in between)


def listed(place: Path) -> list[str]:
    return bulkembed("parts", place / "out").out.splitlines()


def rows_of(paths: list[str]) -> int:
    return sum(pq.read_metadata(path).num_rows for path in paths)


def check_rows(old: list[str], new: list[str]) -> None:
    assert (rows_of(old), rows_of(new)) == (30, 31)


def test_an_incomplete_dataset_is_not_merged(place: Path, server: EmulatorServer) -> None:
    write_rows(place / "in/g.parquet", ["a", "b"], id=["g-0", "g-1"])
    assert embed(place, server, "--limit-rows", "1").code == 0
    ended = bulkembed("compact", place / "out")
    assert ended.code == 2
    assert "is incomplete, so nothing was merged" in ended.last


def test_damaged_parts_are_not_merged(place: Path) -> None:
    part = parts(place / "out", "vectors")[0]
    part.write_bytes(part.read_bytes()[:-1])
    ended = bulkembed("compact", place / "out")
    assert ended.code == 1
    assert "parts of 1 unit are missing or have another size" in ended.last


def test_a_dataset_that_a_run_is_writing_is_not_merged(place: Path) -> None:
    with output_lock.acquire(Dataset.open(str(place / "out")), LockOwner("run-1", "local")):
        assert bulkembed("compact", place / "out").code == 5


@pytest.mark.parametrize("size", ["256", "0MB", "big", "-1MB"])
def test_a_wrong_size_is_a_usage_error(place: Path, size: str) -> None:
    ended = bulkembed("compact", place / "out", "--target-file-size", size)
    assert ended.code == 2
    assert "Write 64MB, 256MB or 1GB" in ended.err


def test_a_missing_dataset_is_a_usage_error(tmp_path: Path) -> None:
    assert bulkembed("compact", tmp_path).code == 2


def test_a_merged_dataset_is_the_same_as_one_that_is_not(
    place: Path, server: EmulatorServer, tmp_path: Path
) -> None:
    assert run(server.url, place / "in", tmp_path / "other", *ARGS).code == 0
    compact(place)
    same_rows(place / "out", tmp_path / "other")
