"""A web server on this machine whose pages are functions, for downloads that go wrong."""

from __future__ import annotations

import collections
import contextlib
import http.server
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from support.server_threads import in_thread

Page = Callable[["Exchange"], None]


class Exchange(http.server.BaseHTTPRequestHandler):
    """One request, and what a page may answer."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        with self.server.changed:
            self.server.asked[self.path] += 1
            self.server.in_flight += 1
            self.server.most_in_flight = max(self.server.most_in_flight, self.server.in_flight)
        try:
            self.server.pages.get(path, missing)(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with self.server.changed:
                self.server.in_flight -= 1

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Send a whole answer; `_` in the name of a header stands for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | named).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def reset(self) -> None:
        """Reset the connection, without a word."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        # The handler's own files keep the socket open.
        self.wfile.close()
        self.rfile.close()
        self.connection.close()

    def log_message(self, *args: Any) -> None:
        """Log nothing."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, pages: Mapping[str, Page], host: str) -> None:
        super().__init__((host, 0), Exchange)
        self.pages = dict(pages)
        self.changed = threading.Lock()
        self.asked: collections.Counter[str] = collections.Counter()
        self.in_flight = 0
        self.most_in_flight = 0

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"

    def handle_error(self, *args: Any) -> None:
        """Say nothing about connections that the client closed."""


def missing(exchange: Exchange) -> None:
    """The page of every other path."""
    exchange.answer(404, b"no such page")


@contextlib.contextmanager
def serving(
    pages: Mapping[str, Page], host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Iterator[_Server]:
    """Serve pages by path until the end of the block."""
    server = _Server(pages, host)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    with in_thread(server):
        yield server
