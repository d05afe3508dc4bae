"""A session cluster of Flink on this machine: a job manager and two task managers."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.killing import wait_for

TASK_MANAGERS = 2
OPENED = ("lang", "net", "nio", "util", "util.concurrent")
"""Packages of Java's own that Flink 1.19 looks into."""
ENTRY = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
WORKER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
MEMORY = {
    "task.heap.size": "256m",
    "task.off-heap.size": "0m",
    "framework.heap.size": "128m",
    "framework.off-heap.size": "128m",
    "network.min": "64m",
    "network.max": "64m",
    "managed.size": "100m",
    "jvm-metaspace.size": "256m",
    "jvm-overhead.min": "96m",
    "jvm-overhead.max": "96m",
}
"""What Flink's start script would work out; it is in no jar."""
PAGES = (
    "", "/config", "/plan", "/exceptions", "/accumulators", "/jobmanager/config",
    "/jobmanager/environment",
)  # fmt: skip
"""What Flink tells of a job."""


RESTARTS = "restart-strategy: {type: fixed-delay, fixed-delay: {attempts: 3, delay: 1 s}}\n"
"""Lets Flink begin a job again that failed; without it, it gives it up."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A cluster that runs."""

    address: str
    """host:port of its REST interface."""
    task_managers: tuple[int, ...]
    """Their process ids."""


@contextlib.contextmanager
def session_cluster(
    jars: Path, folder: Path, ports: tuple[int, int], more: str = ""
) -> Iterator[Cluster]:
    """The cluster, while it runs.

    Args:
        jars: folder of Flink's jars.
        folder: for its configuration and its logs.
        ports: of the job manager and of REST.
        more: lines of its configuration.
    """
    rpc, rest = ports
    (folder / "config.yaml").write_text(
        f"jobmanager: {{rpc: {{address: 127.0.0.1, port: {rpc}}}}}\n"
        "taskmanager: {host: 127.0.0.1, numberOfTaskSlots: 1}\n"
        "heartbeat: {interval: 1000, timeout: 10000}\n"
        f"rest: {{address: 127.0.0.1, port: {rest}}}\n{more}"
    )
    memory = [f"-Dtaskmanager.memory.{name}={size}" for name, size in MEMORY.items()]
    commands = [
        java(jars, folder, ENTRY),
        *[java(jars, folder, WORKER, "-Dtaskmanager.cpu.cores=1", *memory)] * TASK_MANAGERS,
    ]
    pids = []
    with contextlib.ExitStack() as running:
        for number, command in enumerate(commands):
            log = running.enter_context((folder / f"{number}.log").open("w"))
            process = running.enter_context(subprocess.Popen(command, stdout=log, stderr=log))
            running.callback(process.terminate)
            pids.append(process.pid)
        address = f"127.0.0.1:{rest}"
        wait_for(lambda: len(ask(address, "/taskmanagers").get("taskmanagers", [])) == 2, 120)
        yield Cluster(address, tuple(pids[1:]))


def java(jars: Path, folder: Path, program: str, *flags: str) -> list[str]:
    """The command of one of the cluster's processes."""
    opened = [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in OPENED]
    heap = ["-Xmx384m", "-XX:MaxMetaspaceSize=256m"]
    return ["java", *opened, *heap, "-cp", f"{jars}/*", program, "--configDir", str(folder), *flags]


def ask(address: str, path: str) -> dict[str, Any]:
    """An answer of Flink's REST interface; nothing while it does not answer."""
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{address}{path}") as answer:
        return dict(json.load(answer))
    return {}


def jobs(address: str) -> list[str]:
    """The ids of the jobs that the cluster was given."""
    return [str(job["id"]) for job in ask(address, "/jobs").get("jobs", [])]


def told_of(address: str, job: str) -> dict[str, str]:
    """All that Flink tells of a job and its vertices, by path, as text."""
    paths = [f"/jobs/{job}{page}" for page in PAGES]
    paths += [f"/jobs/{job}/vertices/{v['id']}" for v in ask(address, f"/jobs/{job}")["vertices"]]
    paths += ["/jobmanager/config", "/jobmanager/logs", "/jars", "/taskmanagers"]
    return {path: json.dumps(ask(address, path)) for path in paths}
