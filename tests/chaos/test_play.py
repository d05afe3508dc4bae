"""The player waits for what the service is still paid for."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from chaos.history import generate
from chaos.places import Disk
from chaos.play import Player
from chaos.processes import Starter


def send(server: EmulatorServer, texts: list[str]) -> None:
    """Send a call, and be gone, as a process is that was killed."""
    model = "models/gemini-embedding-001"
    requests = [{"model": model, "content": {"parts": [{"text": text}]}} for text in texts]
    body = json.dumps({"requests": requests}).encode()
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST /v1beta/{model}:batchEmbedContents HTTP/1.1\r\nhost: {host}\r\n"
        head += f"x-goog-api-key: k\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)


@pytest.mark.parametrize("latency_ms", [0, 300])
def test_a_call_that_a_busy_service_has_not_read_yet_counts_with_its_step(
    tmp_path: Path, latency_ms: float
) -> None:
    player = Player(generate(1, "disk"), Starter({}), tmp_path, Disk(tmp_path / "out"))
    player.server = EmulatorServer(EmulatorSettings(latency_ms=latency_ms))
    player.server.state.stats = player.ledger
    with player.server as server:
        loop = server._server.servers[0].get_loop()
        loop.call_soon_threadsafe(time.sleep, 0.5)
        send(server, ["a", "b", "c"])
        paid, largest = player.quiet()
    assert (len(paid), largest) == (3, 3)
