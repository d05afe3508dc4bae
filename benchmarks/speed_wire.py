"""The emulator's maximum speed: bare sockets, one per thread, that ignore what they receive.

python -m benchmarks.speed_wire URL INPUT OUTPUT DIM ROWS
"""

from __future__ import annotations

import concurrent.futures
import json
import re
import socket
import sys
import urllib.parse

IN_FLIGHT = 16
CALL_TEXTS = 100
_MODEL = "models/gemini-embedding-001"
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def calls(host: str, port: int, dim: int, count: int) -> None:
    """Send that many requests one after another on one connection, and read the responses."""
    request = {
        "model": _MODEL,
        "content": {"parts": [{"text": "text"}]},
        "outputDimensionality": dim,
    }
    body = json.dumps({"requests": [request] * CALL_TEXTS}).encode()
    head = (
        f"POST /v1beta/{_MODEL}:batchEmbedContents HTTP/1.1\r\nHost: {host}\r\n"
        f"x-goog-api-key: anything\r\nAccept-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    buffer = memoryview(bytearray(16 << 20))
    with socket.create_connection((host, port)) as connection:
        for _ in range(count):
            connection.sendall(head.encode() + body)
            got = 0
            while (end := bytes(buffer[: min(got, 4096)]).find(b"\r\n\r\n")) < 0:
                got += connection.recv_into(buffer[got:])
            found = _LENGTH.search(bytes(buffer[:end]))
            assert found is not None
            whole = end + 4 + int(found[1])
            while got < whole:
                got += connection.recv_into(buffer[got:])


def main() -> None:
    """Run the script."""
    url, _, _, dim, rows = sys.argv[1:]
    where = urllib.parse.urlsplit(url)
    assert where.hostname is not None
    assert where.port is not None
    count = max(1, int(rows) // CALL_TEXTS // IN_FLIGHT)
    with concurrent.futures.ThreadPoolExecutor(IN_FLIGHT) as pool:
        for one in [
            pool.submit(calls, where.hostname, where.port, int(dim), count)
            for _ in range(IN_FLIGHT)
        ]:
            one.result()


if __name__ == "__main__":
    main()
