"""One run at a time on an output, and a dead one holds nothing."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from schemas.errors import OutputLocked
from transforms.storage import output_lock
from transforms.storage.dataset import Dataset
from transforms.storage.lock_owner import DEAD_AFTER_S, LockOwner

HERE = LockOwner("run-1", "local")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset.open(str(tmp_path / "out"))


def leave(dataset: Dataset, owner: LockOwner) -> None:
    """A lock file as a killed run leaves it."""
    dataset.write("_run/lock.json", owner.encoded())


def elsewhere(age_s: float) -> LockOwner:
    beat = time.time() - age_s
    return dataclasses.replace(HERE, run_id="run-0", host="another", pid=1, heartbeat=beat)


def a_dead_pid() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def test_the_second_of_two_runs_is_told_who_holds_the_output(dataset: Dataset) -> None:
    with output_lock.held(dataset, HERE) as before:
        assert before is None
        with (
            pytest.raises(OutputLocked, match=f"run run-1 .*process {os.getpid()} on"),
            output_lock.held(dataset, LockOwner("run-2", "local")),
        ):
            pytest.fail("two runs hold one output")
        assert output_lock.owner_of(dataset) == HERE
    assert not Path(dataset.path("_run/lock.json")).exists()
    assert output_lock.owner_of(dataset) is None
    with output_lock.held(dataset, LockOwner("run-2", "local")):
        pass


def test_the_lock_goes_whatever_ends_the_run(dataset: Dataset) -> None:
    with pytest.raises(KeyboardInterrupt), output_lock.held(dataset, HERE):
        raise KeyboardInterrupt
    assert not Path(dataset.path("_run/lock.json")).exists()


def test_a_dead_owner_on_this_host_is_taken_over_at_once(dataset: Dataset) -> None:
    dead = dataclasses.replace(HERE, run_id="run-0", pid=a_dead_pid())
    leave(dataset, dead)
    assert output_lock.owner_of(dataset) is None
    with output_lock.held(dataset, HERE) as before:
        assert before == dead


def test_an_owner_on_another_host_lives_as_long_as_its_heart_beats(dataset: Dataset) -> None:
    leave(dataset, elsewhere(DEAD_AFTER_S / 2))
    assert output_lock.owner_of(dataset) is not None
    with pytest.raises(OutputLocked, match="on another"), output_lock.held(dataset, HERE):
        pytest.fail("the owner lives")
    leave(dataset, elsewhere(DEAD_AFTER_S + 1))
    assert output_lock.owner_of(dataset) is None
    with output_lock.held(dataset, HERE) as before:
        assert before is not None
        assert before.host == "another"


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"pid": 1}', b"\xff"])
def test_a_damaged_lock_file_stops_nobody(dataset: Dataset, damage: bytes) -> None:
    dataset.write("_run/lock.json", damage)
    assert output_lock.owner_of(dataset) is None
    with output_lock.held(dataset, HERE) as before:
        assert before is None


def test_a_lock_comes_back_from_its_file() -> None:
    assert LockOwner.decoded(HERE.encoded()) == HERE
    assert HERE.host == socket.gethostname()
