"""The job on a session cluster of Flink, and what the cluster tells of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.cli import read, write_rows
from support.engines import BUSY_S, TIMEOUT_S, Engine, files_with_the_key, is_over, workers_of
from support.flink_cluster import RESTARTS, Cluster, jobs, session_cluster, told_of
from support.killing import ended, leftovers, wait_for

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.pipeline.run.plan import SLICES_PER_WORKER
from bulkembed.transforms.dataset.dataset import Dataset

from . import installed
from .test_engines import KEY

pytestmark = [pytest.mark.runners, pytest.mark.timeout(600)]
ROWS = 200


@pytest.fixture
def cluster(
    flink: Engine,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:
    """Its workers take the key from the environment of their task manager.

    The parameter, if any, is a piece of its configuration.
    """
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    jars = installed.job_server("flink").with_suffix("") / "lib"
    ports = (installed.free_port(), installed.free_port())
    more = getattr(request, "param", "")
    with session_cluster(jars, tmp_path_factory.mktemp("flink"), ports, more) as running:
        yield running


def test_two_task_managers_keep_one_quota_and_tell_no_key(
    flink: Engine, cluster: Cluster, tmp_path: Path
) -> None:
    # Each keeps half of 300; on one machine they keep it in one file, which makes 150 of both.
    source = write_rows(tmp_path / "a.parquet", [f"text {n}" for n in range(ROWS)])
    there = flink.with_flags(f"--flink_master={cluster.address}", "--parallelism=2")
    with EmulatorServer(EmulatorSettings(rpm=150, latency_ms=30, api_key=KEY)) as server:
        where = ("--input", source, "--output", tmp_path / "out", "--base-url", server.url)
        args = (*where, "--dim", 128, "--unit-rows", 25, "--rpm", 300)
        with there.started(*args) as process:
            wait_for(lambda: len(workers_of(os.getpid())) > 1 or is_over(process), BUSY_S)
            wait_for(lambda: server.stats()["texts"] > 0 or is_over(process), BUSY_S)
            told = [told_of(cluster.address, job) for job in jobs(cluster.address)]
            done = ended(process, TIMEOUT_S)
        assert done.code == 0, done.err
        stats = server.stats()
    told += [told_of(cluster.address, job) for job in jobs(cluster.address)]
    assert len(told) == 2
    assert all("EmbedSlice" in "".join(pages.values()) for pages in told)
    assert not [path for pages in told for path, text in pages.items() if KEY in text]
    assert files_with_the_key(KEY, tmp_path, installed.HOME) == []
    assert (stats["texts"], stats["answers_429"]) == (ROWS, 0)
    assert read(tmp_path / "out")["id"].to_pylist() == list(range(ROWS))


def a_worker(cluster: Cluster) -> int:
    """A process that runs Beam's Python worker."""
    return next(iter(workers_of(os.getpid())))


def a_busy_task_manager(cluster: Cluster) -> int:
    """One that has such a worker."""
    return next(pid for pid in cluster.task_managers if workers_of(pid))


@pytest.mark.parametrize(
    ("cluster", "victim", "codes"),
    [
        pytest.param("", a_worker, [75, 0], id="worker, no restarts"),
        pytest.param(RESTARTS, a_worker, [0], id="worker, restarts"),
        pytest.param(RESTARTS, a_busy_task_manager, [0], id="task manager, restarts"),
    ],
    indirect=["cluster"],
)
def test_what_is_lost_on_a_cluster_is_handed_out_again_and_nothing_committed_is_paid_twice(
    flink: Engine,
    cluster: Cluster,
    victim: Callable[[Cluster], int],
    codes: list[int],
    tmp_path: Path,
) -> None:
    source = write_rows(tmp_path / "a.parquet", [f"text {n}" for n in range(ROWS)])
    there = flink.with_flags(f"--flink_master={cluster.address}", "--parallelism=1")
    output = tmp_path / "out"
    with EmulatorServer(EmulatorSettings(latency_ms=500, api_key=KEY)) as server:
        where = ("--input", source, "--output", output, "--base-url", server.url)
        args = (*where, "--dim", 128, "--unit-rows", 5, "--concurrency", 2, "--rpm", 0)
        with there.started(*args) as process:
            wait_for(lambda: committed_rows(output) >= 25 or is_over(process), BUSY_S)
            os.kill(victim(cluster), signal.SIGKILL)
            done, paid = committed_rows(output), server.stats()["texts"]
            seen = [ended(process, TIMEOUT_S).code]
        while seen[-1] == 75 and len(seen) < 3:
            seen.append(there.run(*args).code)
        twice = server.stats()["texts"] - ROWS
    print(f"flink: {victim.__name__} killed at {done} rows: codes {seen}, {twice} texts paid twice")
    assert seen == codes
    # The request in flight when the worker ends has the texts of a slice: see `cluster_slices`.
    assert twice <= paid - done + ROWS // SLICES_PER_WORKER
    assert read(output)["id"].to_pylist() == list(range(ROWS))
    assert leftovers(output) == []


def committed_rows(output: Path) -> int:
    return sum(record.unit.rows for record in Dataset.open(str(output)).state().records)
