"""A web server on this machine with an image at each number: `/12.jpg`."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator
from typing import Any


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, image: Callable[[int], bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.image = image


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        data = self.server.image(int(self.path[1:].partition(".")[0]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        """Log nothing."""


@contextlib.contextmanager
def serving(image: Callable[[int], bytes]) -> Iterator[str]:
    """Serve the image of each number until the end of the block; gives the URL of the server."""
    server = _Server(image)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
