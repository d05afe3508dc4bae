"""A dataset that version 0.1.0 wrote, complete or interrupted, is resumed and read."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.cli import Ended, bulkembed, dead_codes, matrix, read, run, snapshot
from support.killing import leftovers

FORMAT_1 = Path(__file__).parents[1] / "data/format_1"
ARGS = ("--dim", 128, "--unit-rows", 3, "--keep-columns", "lang", "--concurrency", 1)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Return a folder with the input and the two datasets that were made from it."""
    copy = Path(shutil.copytree(FORMAT_1, tmp_path / "old"))
    # A run on another host is dead by the age of its claim, and a checkout makes all files new.
    os.utime(copy / "interrupted/_run/lock.json", (0, 0))
    return copy


def go(old: Path, name: str, *args: object) -> Ended:
    return run(None, old / "in", old / name, *ARGS, *args)


def paid_tokens(output: Path) -> int:
    paid: int = json.loads((output / "_run/account.json").read_bytes())["paid"]
    return paid


def test_a_complete_old_dataset_is_left_unchanged(old: Path) -> None:
    before = snapshot(old / "complete")
    ended = go(old, "complete")
    assert ended.code == 0, ended.err
    assert "12 in: 10 embedded, 1 skipped (blank), 1 failed, 0 remaining" in ended.out
    assert snapshot(old / "complete") == before


def test_a_killed_old_run_resumes_without_paying_for_kept_answers(old: Path) -> None:
    output = old / "interrupted"
    before = paid_tokens(output)
    ended = go(old, "interrupted")
    assert ended.code == 0, ended.err
    assert paid_tokens(output) == before > 0
    done, whole = read(output), read(old / "complete")
    assert done.equals(whole)
    assert np.array_equal(matrix(done), matrix(whole))
    assert dead_codes(output) == dead_codes(old / "complete")
    assert leftovers(output) == []
    assert bulkembed("verify", output, "--against", old / "in").code == 0
    pinned = json.loads((output / "_run/run.json").read_bytes())
    assert (pinned["format_version"], pinned["run_number"]) == (3, 1)


def test_an_old_run_killed_twice_resumes_without_paying_for_kept_answers(
    old: Path,
) -> None:
    output = old / "interrupted"
    before = paid_tokens(output)
    assert go(old, "interrupted", "--limit-rows", 3).code == 0
    assert go(old, "interrupted").code == 0
    assert paid_tokens(output) == before
    assert read(output).equals(read(old / "complete"))


@pytest.mark.parametrize(
    "args", [("--dim", 256), ("--task-type", "CLUSTERING"), ("--no-normalize",)], ids=str
)
@pytest.mark.parametrize("name", ["complete", "interrupted", "shared"])
def test_other_settings_are_rejected(old: Path, name: str, args: tuple[object, ...]) -> None:
    if name == "shared":  # What a first run leaves that is ended before the first unit.
        shutil.copytree(old / "interrupted", old / "shared")
        for folder in ("units", "spill"):
            shutil.rmtree(old / "shared/_run" / folder)
        (old / "shared/_run/account.json").unlink()
    before = snapshot(old / name)
    ended = go(old, name, *args)
    assert ended.code == 2, ended.err
    assert "cannot be mixed" in ended.last
    assert snapshot(old / name) == before


def test_kept_answers_with_unknown_settings_are_not_used(old: Path) -> None:
    output = old / "interrupted"
    (kept,) = (output / "_run/shared").glob("*.spill")
    stray = kept.with_name(f"20200101T000000Z-aaaaaa-shared-0{kept.suffix}")
    data = bytearray(kept.read_bytes())
    stray.write_bytes(data)
    kept.unlink()
    for path in (output / "_run/spill").iterdir():
        path.unlink()
    before = paid_tokens(output)
    assert go(old, "interrupted").code == 0
    assert not stray.exists()
    assert paid_tokens(output) > before
    assert read(output).equals(read(old / "complete"))


def test_an_old_dataset_is_verified_searched_and_reported(old: Path) -> None:
    output = old / "complete"
    assert bulkembed("verify", output, "--against", old / "in").code == 0
    told = json.loads(bulkembed("status", output, "--json").out)
    assert (told["complete"], told["rows"]["embedded"], told["vectors"]) == (True, 10, 10)
    found = bulkembed("search", output, "text seven", "--emulator", "--json")
    assert found.code == 0, found.err
    ended = bulkembed("report", output)
    assert ended.code == 0, ended.err


def test_an_old_dataset_is_overwritten(old: Path) -> None:
    output = old / "interrupted"
    assert go(old, "interrupted", "--overwrite").code == 0
    assert read(output).equals(read(old / "complete"))
    assert leftovers(output) == []
    assert paid_tokens(output) == paid_tokens(old / "complete")
