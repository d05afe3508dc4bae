"""Small files share requests, parts and commit records, and are otherwise files like others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.cli import Ended, bulkembed, dead_codes, parts, read, run, summary, write_rows
from support.damage import findings
from support.killing import leftovers

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.groups import group_key

FILES = 40
ROWS = 3
ARGS = ("--dim", "128", "--no-report")
POISON = EmulatorSettings(poison="poison")


def write(folder: Path, file: int, texts: list[str | None]) -> None:
    ids = [f"{file}-{row}" for row in range(len(texts))]
    langs = [f"l{file % 5}"] * len(texts)
    write_rows(folder / f"f{file:02}.parquet", texts, id=ids, lang=langs)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """40 files of three rows; two rows are blank, two texts occur in other files as well, and two
    rows of two files can fail."""
    for file in range(FILES):
        texts: list[str | None] = [f"text {row} of file {file}" for row in range(ROWS)]
        if file in (3, 30):
            texts[1] = "" if file == 3 else None
        if file in (5, 6):
            texts[0] = "text 0 of file 7"
        if file in (9, 20):
            texts[2] = f"poison {file}"
        write(tmp_path / "in", file, texts)
    return tmp_path / "in"


def go(server: EmulatorServer, source: Path, output: Path, *args: object) -> Ended:
    ended = run(server.url, source, output, *ARGS, *args)
    assert ended.code == 0, ended.err
    return ended


def records(output: Path) -> list[str]:
    return sorted(path.name for path in (output / "_run/units").iterdir())


def check(source: Path, output: Path, rows: int) -> None:
    assert output.name == "out"
    assert findings(output.parent, "--against", source) == []
    assert leftovers(output) == []
    assert len(set(read(output)["id"].to_pylist())) == read(output).num_rows == rows


def test_small_files_share_requests_parts_and_records(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    go(server, source, output)
    assert server.stats()["calls"] == 3  # One is for the text that several files have.
    assert len(parts(output, "vectors")) == len(parts(output, "dead_letters")) == 1
    assert len(records(output)) == 1
    assert dead_codes(output) == {1: "blank_text"}
    check(source, output, FILES * ROWS - 2)
    found = summary(output)
    assert found["counts"]["texts"] == server.stats()["texts"] == FILES * ROWS - 4
    assert found["dataset"]["embedded"] == FILES * ROWS - 2
    status = json.loads(bulkembed("status", output, "--json").out)
    assert status["complete"]
    assert status["counts"]["texts"] == FILES * ROWS - 4
    go(server, source, output)
    assert server.stats()["calls"] == 3  # One is for the text that several files have.
    assert len(records(output)) == 1


def test_few_files_keep_their_own_parts(server: EmulatorServer, tmp_path: Path) -> None:
    for file in range(10):
        write(tmp_path / "in", file, [f"text {file}"])
    go(server, tmp_path / "in", tmp_path / "out")
    assert len(parts(tmp_path / "out", "vectors")) == 10


def test_a_group_has_at_most_the_rows_of_a_unit(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    go(server, source, output, "--unit-rows", 30)
    rows = sorted(pq.read_metadata(part).num_rows for part in parts(output, "vectors"))
    assert rows == [29, 29, 30, 30]
    check(source, output, FILES * ROWS - 2)


def test_changed_and_removed_files_leave_their_group(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    go(server, source, output)
    write(source, 12, ["a new text", "text 1 of file 12"])
    (source / "f13.parquet").unlink()
    paid = server.stats()["texts"]
    go(server, source, output, "--prune", "--max-delete", "50%")
    assert server.stats()["texts"] == paid + 1
    check(source, output, FILES * ROWS - 2 - 1 - 3)
    assert len(parts(output, "vectors")) == 2
    assert summary(output)["changes"] == {"added": 0, "changed": 1, "deleted": 4}


@pytest.mark.faults
def test_known_vectors_of_small_files_are_not_paid_for_again(
    server: EmulatorServer, source: Path, output: Path, tmp_path: Path
) -> None:
    go(server, source, output, "--limit-rows", 50)
    go(server, source, output)
    paid = server.stats()["texts"]
    assert paid == FILES * ROWS - 4
    for file in sorted(source.iterdir()):
        file.rename(source / f"new-{file.name}")
    go(server, source, output, "--prune", "--max-delete", "100%")
    assert server.stats()["texts"] == paid
    check(source, output, FILES * ROWS - 2)
    assert len(parts(output, "vectors")) == 1
    other = tmp_path / "other/out"
    go(server, source, other, "--reuse", output, "--vector-type", "float16")
    assert server.stats()["texts"] == paid
    check(source, other, FILES * ROWS - 2)
    assert len(records(other)) == 1


def test_units_with_failed_rows_keep_their_own_parts_and_are_retried(
    source: Path, output: Path
) -> None:
    with EmulatorServer(POISON) as server:
        go(server, source, output)
        assert len(records(output)) == 3
        assert len(parts(output, "dead_letters")) == 3
        check(source, output, FILES * ROWS - 4)
    with EmulatorServer() as server:
        go(server, source, output, "--retry-failed")
        assert server.stats()["texts"] == 2
        assert len(records(output)) == 3
    check(source, output, FILES * ROWS - 2)
    assert bulkembed("compact", output).code == 0
    assert len(records(output)) == len(parts(output, "vectors")) == 1
    check(source, output, FILES * ROWS - 2)


@pytest.mark.faults
def test_answers_of_committed_rows_are_not_reported_as_uncommitted(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    args = (*ARGS, "--dedupe", "off", "--rpd", 50)
    ended = run(server.url, source, output, *args)
    assert ended.code == 75, ended.err
    assert read(output).num_rows == server.stats()["texts"] == 50
    assert "not committed" not in ended.out
    assert json.loads(bulkembed("status", output, "--json").out)["kept_texts"] == 0


@pytest.mark.faults
def test_a_damaged_part_of_a_group_is_written_again(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    go(server, source, output)
    whole = read(output)
    (part,) = parts(output, "vectors")
    part.write_bytes(part.read_bytes()[:-100])
    go(server, source, output)
    assert read(output).equals(whole)
    check(source, output, FILES * ROWS - 2)


@pytest.mark.faults
def test_the_record_of_a_group_is_rebuilt_from_its_parts(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    go(server, source, output)
    (record,) = (output / "_run/units").iterdir()
    data = record.read_bytes()
    record.unlink()
    assert bulkembed("verify", output, "--repair").code == 0
    assert record.read_bytes() == data


@pytest.mark.faults
def test_units_that_a_late_worker_has_committed_again_are_removed_by_a_repair(
    server: EmulatorServer, source: Path, output: Path, tmp_path: Path
) -> None:
    """Its group has only some of the units that the dataset's group has, and its name counts."""
    go(server, source, output)
    whole = read(output)
    (group,) = Dataset.open(str(output)).state().groups
    units = [member.unit for member in group.members]
    end = next(n for n in range(27, FILES) if group_key(units[10:n], 1) < group.key)
    (tmp_path / "late/in").mkdir(parents=True)
    for file in range(10, end):
        shutil.copy(source / f"f{file}.parquet", tmp_path / "late/in")
    go(server, tmp_path / "late/in", tmp_path / "late/out")
    for folder in ("vectors", "dead_letters", "_run/units"):
        (tmp_path / "late/out" / folder).mkdir(exist_ok=True)
        shutil.copytree(tmp_path / "late/out" / folder, output / folder, dirs_exist_ok=True)
    assert findings(output.parent) != []
    repaired = bulkembed("verify", output, "--repair")
    assert repaired.code == 0
    assert f"written again without {end - 10} units that other records cover" in repaired.out
    go(server, source, output)
    assert read(output).equals(whole)
    check(source, output, FILES * ROWS - 2)


@pytest.mark.faults
def test_partitions_of_small_files(server: EmulatorServer, source: Path, output: Path) -> None:
    args = ("--keep-columns", "lang", "--partition-by", "lang")
    go(server, source, output, *args)
    assert len(records(output)) == 1
    assert sorted(part.parent.name for part in parts(output, "vectors")) == [
        f"lang=l{n}" for n in range(5)
    ]
    check(source, output, FILES * ROWS - 2)
    write(source, 12, ["a new text"])
    go(server, source, output, *args)
    check(source, output, FILES * ROWS - 4)


@pytest.mark.faults
@pytest.mark.parametrize(
    "args",
    [
        pytest.param(("--workers", 2), id="two-workers"),
        pytest.param(("--mode", "batch", "--batch-poll", "0.1s"), id="batch"),
        pytest.param(("--sync",), id="sync"),
        pytest.param(("--long-text", "passages"), id="passages"),
        pytest.param(("--provenance",), id="provenance"),
    ],
)
def test_every_kind_of_run_reads_and_writes_groups(
    server: EmulatorServer, source: Path, output: Path, args: tuple[object, ...]
) -> None:
    go(server, source, output, *args)
    assert len(parts(output, "vectors")) <= 2
    check(source, output, FILES * ROWS - 2)
    write(source, 12, ["a new text", "text 1 of file 12"])
    paid = server.stats()["texts"]
    go(server, source, output, *args)
    assert server.stats()["texts"] == paid + 1
    check(source, output, FILES * ROWS - 3)


@pytest.mark.faults
def test_a_damaged_small_file_is_skipped_alone(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    damaged = source / "f08.parquet"
    data = damaged.read_bytes()
    damaged.write_bytes(data[:4] + b"\xff" * 60 + data[64:])
    ended = run(server.url, source, output, *ARGS, "--dedupe", "unit", "--skip-bad-files")
    assert ended.code == 0, ended.err
    assert len(parts(output, "vectors")) == 1
    assert read(output).num_rows == FILES * ROWS - 2 - ROWS
