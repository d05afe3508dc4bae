"""Envoy's own rate limit service, which two workers ask for each text."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import read, write_rows
from support.envoy import rate_limit_service
from support.killing import Job, ended

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

from . import installed

pytestmark = [pytest.mark.runners, pytest.mark.timeout(900)]
ROWS = 1200
A_SECOND = 50
CALL_TEXTS = 100


@pytest.fixture
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    try:
        program, redis = installed.rate_limit_service(), installed.redis()
    except installed.NotHere as error:
        pytest.skip(f"envoy: {error}")
    redis_port, grpc, http, debug = (installed.free_port() for _ in range(4))
    folder = tmp_path_factory.mktemp("envoy")
    ports = (redis_port, grpc, http, debug)
    with rate_limit_service(program, redis, folder, ports, A_SECOND) as address:
        yield address


def test_two_workers_keep_the_limit_of_envoys_service(
    service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "anything")
    source = write_rows(tmp_path / "a.parquet", [f"text {n}" for n in range(ROWS)])
    # Of bulkembed's own limits there is none: only the service holds the two workers back.
    ours = ("--rpm", "0", "--tpm", "0", "--rpd", "0", "--workers", "2")
    more = ("--dim", "128", "--rate-limit-service", service)
    with EmulatorServer(EmulatorSettings()) as server:
        process = Job(server, source, tmp_path / "out", (*ours, *more)).start()
        seen = []
        while process.poll() is None:
            seen.append((time.monotonic(), server.stats()["texts"]))
            time.sleep(0.05)
        done = ended(process)
        assert done.code == 0, done.err
        assert server.stats()["texts"] == ROWS
    assert read(tmp_path / "out")["id"].to_pylist() == list(range(ROWS))
    began = next(at for at, texts in seen if texts)
    # What a call sends was let through before; a window of the service's may end as we begin.
    allowed = [A_SECOND * (at - began + 2) + CALL_TEXTS * 2 for at, _ in seen]
    assert not [one for one, most in zip(seen, allowed, strict=True) if 0 < one[1] > most]
    lasted = next(at for at, texts in seen if texts > ROWS - 2 * CALL_TEXTS) - began
    print(f"envoy: {ROWS} texts at {A_SECOND} a second in {lasted:.0f} s", flush=True)
