from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from collections.abc import Iterator

import pytest
from support.engines import BUSY_S, Engine
from support.killing import wait_for

from . import installed

LOOPBACK = "--environment_type=LOOPBACK"
WANTED = ("prism", "flink", "spark")


@pytest.fixture(scope="session", params=WANTED)
def engine(request: pytest.FixtureRequest) -> Engine:
    """A real engine whose workers are processes of their own and install what is staged."""
    return an_engine(request.param)


@pytest.fixture(scope="session")
def flink() -> Engine:
    return an_engine("flink")


@pytest.fixture(scope="module")
def flink_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Flink in one job server for several jobs, whose workers are threads of the command."""
    try:
        jar = installed.job_server("flink")
    except installed.NotHere as error:
        pytest.skip(f"flink: {error}")
    port, folder = installed.free_port(), tmp_path_factory.mktemp("flink-service")
    command = [
        "java", "-jar", jar, "--flink-master", "[auto]", "--artifacts-dir", folder, "--job-port",
        port, "--artifact-port", 0, "--expansion-port", 0,
    ]  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*map(str, command)], stdout=log, stderr=log)
        try:
            wait_for(lambda: answers(port) or process.poll() is not None, BUSY_S)
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            yield Engine("portable", (f"--job_endpoint=localhost:{port}", LOOPBACK))
        finally:
            process.kill()
            process.wait()


def answers(port: int) -> bool:
    """Whether something listens on a port."""
    with contextlib.suppress(OSError), socket.create_connection(("localhost", port), 1):
        return True
    return False


def an_engine(name: str) -> Engine:
    try:
        command = json.dumps({"command": str(installed.worker())})
        here = program_flag(name)
    except installed.NotHere as error:
        pytest.skip(f"{name}: {error}")
    return Engine(name, (here, "--environment_type=PROCESS", f"--environment_config={command}"))


def program_flag(name: str) -> str:
    if name == "prism":
        return f"--prism_location={installed.prism()}"
    return f"--{name}_job_server_jar={installed.job_server(name)}"


@pytest.fixture(autouse=True)
def _no_workers_of_others() -> Iterator[None]:
    installed.forget_workers()
    yield
    installed.forget_workers()
