"""A line of limited speed: a proxy in front of a server, whose answers share so many Mbit/s.

python -m benchmarks.slow_line URL MBIT_PER_S
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
import urllib.parse

PIECE_BYTES = 16 * 1024


class Line:
    """Lets bytes through at a constant rate, in the order in which they were announced."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_at = 0.0

    async def carry(self, count: int) -> None:
        """Return when the bytes are through."""
        self._free_at = max(self._free_at, time.monotonic()) + count / self._bytes_per_s
        await asyncio.sleep(self._free_at - time.monotonic())


async def forward(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: Line | None
) -> None:
    """Copy one direction of a connection until it ends."""
    with contextlib.suppress(OSError):
        while piece := await reader.read(PIECE_BYTES):
            if line is not None:
                await line.carry(len(piece))
            writer.write(piece)
            await writer.drain()
    writer.close()


async def serve(url: str, mbit_per_s: float) -> None:
    """Print the address of the proxy, and serve."""
    target, line = urllib.parse.urlsplit(url), Line(mbit_per_s * 1e6 / 8)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(target.hostname, target.port)
        await asyncio.gather(forward(reader, there[1], None), forward(there[0], writer, line))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], float(sys.argv[2])))
