"""One run at a time on an output, and a dead one holds nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import run, write_rows

from bulkembed.emulator.server import EmulatorServer
from bulkembed.schemas.errors import OutputLocked
from bulkembed.schemas.job import ProcessId
from bulkembed.transforms.dataset import output_lock
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.output_lock import DEAD_AFTER_S, LockOwner

HERE = LockOwner("run-1", "local")
OF_AN_EARLIER_VERSION = {
    "run_id": "run-0", "runner": "local", "host": "a", "pid": 7, "heartbeat": 5.0,
}  # fmt: skip


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset.open(str(tmp_path / "out"))


def leave(dataset: Dataset, owner: LockOwner) -> None:
    """Write a lock file as a killed run leaves it."""
    dataset.write("_run/lock.json", owner.to_json())


def leave_elsewhere(dataset: Dataset, age_s: float) -> LockOwner:
    """Write a lock file as a run on another host leaves it."""
    process = ProcessId(1, "another boot", "pid:[1]")
    owner = dataclasses.replace(HERE, run_id="run-0", host="another", process=process)
    leave(dataset, owner)
    date(dataset, "_run/lock.json", age_s)
    return owner


def date(dataset: Dataset, name: str, age_s: float) -> None:
    at = time.time() - age_s
    os.utime(dataset.path(name), (at, at))


def a_dead_process() -> ProcessId:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return dataclasses.replace(HERE.process, pid=ended.pid)


def never(seconds: float) -> None:
    pytest.fail(f"waits {seconds} s, but nothing needs a wait")


def test_a_second_run_is_rejected_and_the_error_names_the_owner(dataset: Dataset) -> None:
    tries: list[float] = []
    with output_lock.acquire(dataset, HERE) as before:
        assert before is None
        with (
            pytest.raises(OutputLocked, match=f"run run-1 .*process {os.getpid()} on") as error,
            output_lock.acquire(dataset, LockOwner("run-2", "local"), sleep=tries.append),
        ):
            pytest.fail("two runs own one output")
        assert output_lock.current_owner(dataset) == HERE
    assert re.search(
        r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\. .* process ends", str(error.value)
    )
    assert sum(tries) < 2
    assert not Path(dataset.path("_run/lock.json")).exists()
    assert output_lock.current_owner(dataset) is None
    with output_lock.acquire(dataset, LockOwner("run-2", "local")):
        pass


def test_looking_at_the_lock_does_not_keep_a_run_away(dataset: Dataset) -> None:
    dataset.write("_run/lock.json", b"")
    looking = os.open(dataset.path("_run/lock.json"), os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    with output_lock.acquire(dataset, HERE, sleep=lambda _: os.close(looking)) as before:
        assert before is None


def test_the_lock_is_released_however_the_run_ends(dataset: Dataset) -> None:
    with pytest.raises(KeyboardInterrupt), output_lock.acquire(dataset, HERE):
        raise KeyboardInterrupt
    assert not Path(dataset.path("_run/lock.json")).exists()


@pytest.mark.parametrize(
    "namespace", [HERE.process.namespace, "pid:[1]"], ids=["here", "another-container"]
)
def test_the_lock_of_a_dead_owner_on_this_machine_is_taken_over_at_once(
    dataset: Dataset, namespace: str
) -> None:
    # In another container as well: the kernel, which is the same, has freed its lock.
    process = dataclasses.replace(a_dead_process(), namespace=namespace)
    dead = dataclasses.replace(HERE, run_id="run-0", process=process)
    leave(dataset, dead)
    assert output_lock.current_owner(dataset) is None
    with output_lock.acquire(dataset, HERE, sleep=never) as before:
        assert before == dead


def test_an_owner_on_another_host_is_alive_while_it_sends_heartbeats(dataset: Dataset) -> None:
    owner = leave_elsewhere(dataset, DEAD_AFTER_S / 2)
    assert output_lock.current_owner(dataset) == owner
    left = Path(dataset.path("_run/lock.json")).read_bytes()
    with (
        pytest.raises(OutputLocked, match="on another") as error,
        output_lock.acquire(dataset, HERE, sleep=never),
    ):
        pytest.fail("the owner is alive")
    assert re.search(r"If that run is dead, its claim ends at .* UTC", str(error.value))
    assert Path(dataset.path("_run/lock.json")).read_bytes() == left
    leave_elsewhere(dataset, DEAD_AFTER_S + 1)
    assert output_lock.current_owner(dataset) is None
    with output_lock.acquire(dataset, HERE, sleep=never) as before:
        assert before == owner


def test_a_lock_with_a_date_in_the_future_expires_if_nobody_renews_it(dataset: Dataset) -> None:
    owner = leave_elsewhere(dataset, -86_400)
    waited: list[float] = []
    with output_lock.acquire(dataset, HERE, sleep=waited.append) as before:
        assert before == owner
    assert sum(waited) == pytest.approx(output_lock.WATCH_S)


def test_a_lock_with_a_date_in_the_future_is_alive_if_it_is_renewed(dataset: Dataset) -> None:
    leave_elsewhere(dataset, -86_400)
    with (
        pytest.raises(OutputLocked, match="on another"),
        output_lock.acquire(
            dataset, HERE, sleep=lambda _: date(dataset, "_run/lock.json", -86_430)
        ),
    ):
        pytest.fail("the owner is alive")


@pytest.fixture(params=[errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS], ids=errno.errorcode.get)
def no_locks(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Put the dataset on a file system without locks, such as some of NFS and Lustre."""
    flock = fcntl.flock

    def reject(file: int, operation: int) -> None:
        if Path(f"/proc/self/fd/{file}").readlink().is_relative_to(dataset.root):
            raise OSError(request.param, os.strerror(request.param))
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", reject)


@pytest.mark.usefixtures("no_locks")
def test_claims_keep_a_second_run_away_if_there_are_no_locks(
    dataset: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    with output_lock.acquire(dataset, HERE):
        assert [one.getMessage() for one in caplog.records] == [
            f"{dataset.path('_run/lock.json')} cannot be locked "
            f"({caplog.records[0].args[1]}). As on object stores, "  # type: ignore[index]
            "claims in _run/claims/ keep other runs away."
        ]
        assert output_lock.current_owner(dataset) == HERE
        with (
            pytest.raises(OutputLocked, match="run run-1 "),
            output_lock.acquire(dataset, LockOwner("run-2", "local"), sleep=never),
        ):
            pytest.fail("two runs own one output")
    assert output_lock.current_owner(dataset) is None
    dead = dataclasses.replace(HERE, run_id="run-0", process=a_dead_process())
    dataset.write(output_lock.claim_name(dead), dead.to_json())
    assert output_lock.current_owner(dataset) is None
    with output_lock.acquire(dataset, HERE, sleep=never) as before:
        assert before == dead
    assert dataset.names("_run/claims") == []


@pytest.mark.usefixtures("no_locks")
def test_a_job_runs_on_a_disk_without_locks(
    server: EmulatorServer, dataset: Dataset, tmp_path: Path
) -> None:
    source = write_rows(tmp_path / "in.parquet", [f"text {n}" for n in range(20)])
    cap = ("--max-cost-usd", 100, "--price-usd-per-mtok", 1)
    ended = run(server.url, source, dataset.root, "--dim", 128, *cap)
    assert ended.code == 0, ended.err
    assert ended.err.count("cannot be locked") == 1
    assert json.loads(Path(dataset.path("_run/account.json")).read_bytes())["paid"] > 0


def test_a_claim_also_keeps_away_a_run_that_has_locks(dataset: Dataset) -> None:
    owner = dataclasses.replace(HERE, run_id="run-0", process=ProcessId(1, "another boot", "x"))
    with (
        output_lock.acquire_by_claim(dataset, owner),
        pytest.raises(OutputLocked, match="run run-0"),
        output_lock.acquire(dataset, HERE, sleep=never),
    ):
        pytest.fail("two runs own one output")


CONTAINER = """
import socket, sys, time
from bulkembed.transforms.dataset.output_lock import acquire_by_claim
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.output_lock import LockOwner
with acquire_by_claim(Dataset.open(sys.argv[1]), LockOwner(sys.argv[2], "local")) as before:
    print(before and before.run_id, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def a_container(dataset: Dataset, run_id: str) -> Iterator[subprocess.Popen[str]]:
    """Start a run in its own process namespace, with this host's name."""
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("process namespaces are not allowed here")
    with subprocess.Popen(
        [*command, sys.executable, "-c", CONTAINER, dataset.root, run_id],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            # Before its input is closed, which would let it end cleanly.
            process.wait(timeout=60)


def test_containers_with_the_same_host_name_are_distinguished(dataset: Dataset) -> None:
    """Each is process 1 of the same host, and not visible from here."""
    with a_container(dataset, "run-0") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "None\n"
        owner = output_lock.current_owner(dataset)
        assert owner is not None
        assert (owner.run_id, owner.process.pid) == ("run-0", 1)
        with pytest.raises(OutputLocked, match="run run-0"), output_lock.acquire(dataset, HERE):
            pytest.fail("two runs own one output")
        with a_container(dataset, "run-1") as second:
            out, err = second.communicate(timeout=60)
            assert "OutputLocked" in err, out
    # Killed. Its successor is process 1 as well, which does not prove that this one is alive.
    date(dataset, "_run/claims/run-0.json", DEAD_AFTER_S + 1)
    with a_container(dataset, "run-2") as restarted:
        assert restarted.stdout is not None
        assert restarted.stdout.readline() == "run-0\n"


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"pid": 1}', b"\xff"])
def test_a_damaged_lock_file_does_not_stop_a_run(dataset: Dataset, damage: bytes) -> None:
    dataset.write("_run/lock.json", damage)
    assert output_lock.current_owner(dataset) is None
    with output_lock.acquire(dataset, HERE) as before:
        assert before is None


def test_an_owner_is_read_back_from_json() -> None:
    assert LockOwner.from_json(HERE.to_json()) == HERE
    assert LockOwner.from_json(json.dumps(OF_AN_EARLIER_VERSION).encode()) == dataclasses.replace(
        HERE, run_id="run-0", host="a", process=ProcessId(7), since=5.0, heartbeat=5.0, identity=""
    )
    assert HERE.host == socket.gethostname()
