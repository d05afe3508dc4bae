from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from support.engines import Engine

from . import installed

WANTED = ("prism", "flink", "spark")


@pytest.fixture(scope="session", params=WANTED)
def engine(request: pytest.FixtureRequest) -> Engine:
    """A real engine whose workers are processes of their own and install what is staged."""
    return an_engine(request.param)


@pytest.fixture(scope="session")
def flink() -> Engine:
    return an_engine("flink")


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
