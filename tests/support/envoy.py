"""Envoy's rate limit service on this machine, with a limit for each model."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from support.killing import wait_for

START_S = 60.0


@contextlib.contextmanager
def rate_limit_service(
    program: Path, redis: Path, folder: Path, ports: tuple[int, int, int, int], a_second: int
) -> Iterator[str]:
    """The service; gives its address.

    Args:
        program: the service's binary.
        redis: a program that serves Redis's protocol at the address that it is given.
        folder: for its configuration.
        ports: of Redis, and of the service: gRPC, HTTP, debugging.
        a_second: how many texts of each model it lets through.
    """
    (folder / "config").mkdir()
    (folder / "config/bulkembed.yaml").write_text(
        "domain: bulkembed\ndescriptors:\n- key: model\n"
        f"  rate_limit: {{unit: second, requests_per_unit: {a_second}}}\n"
    )
    store, grpc, http, debug = ports
    environ = {
        "RUNTIME_ROOT": str(folder), "RUNTIME_SUBDIRECTORY": "", "RUNTIME_WATCH_ROOT": "false",
        "REDIS_SOCKET_TYPE": "tcp", "REDIS_URL": f"127.0.0.1:{store}", "DISABLE_STATS": "true",
        "HOST": "127.0.0.1", "GRPC_HOST": "127.0.0.1", "DEBUG_HOST": "127.0.0.1",
        "GRPC_PORT": str(grpc), "PORT": str(http), "DEBUG_PORT": str(debug),
    }  # fmt: skip
    with running([redis, f"127.0.0.1:{store}"], store), running([program], grpc, **environ):
        yield f"127.0.0.1:{grpc}"


@contextlib.contextmanager
def running(command: list[str | Path], port: int, **environ: str) -> Iterator[None]:
    """A server, from the moment that it listens."""
    with subprocess.Popen(command, env={**os.environ, **environ}) as server:
        try:
            wait_for(lambda: listens(port) or server.poll() is not None, START_S)
            assert server.poll() is None, f"{command[0]} ended with {server.returncode}"
            yield
        finally:
            server.kill()


def listens(port: int) -> bool:
    """Whether something takes connections on a port of this machine."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False
