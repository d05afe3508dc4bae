"""A read-only Google Cloud Storage of local folders, one for each bucket, as its client asks it."""

from __future__ import annotations

import collections
import contextlib
import datetime as dt
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.server_threads import in_thread


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: GcsPages

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        bucket, _, rest = url.path.removeprefix("/storage/v1/b/").partition("/")
        name = urllib.parse.unquote(rest.removeprefix("o").removeprefix("/"))
        options = urllib.parse.parse_qs(url.query)
        path = self.server.folder / bucket / name
        if not name and path.is_dir():
            return self._answer(200, json.dumps({"kind": "storage#objects"}).encode())
        if not path.is_file():
            return self._answer(404, b'{"error": {"code": 404, "message": "No such object"}}')
        if options.get("alt") != ["media"]:
            return self._answer(200, json.dumps(_metadata(bucket, name, path)).encode())
        data = path.read_bytes()
        with self.server.lock:
            self.server.read[name] += 1
        return self._answer(200, data)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Log nothing."""


def _metadata(bucket: str, name: str, path: Path) -> dict[str, Any]:
    stat = path.stat()
    updated = dt.datetime.fromtimestamp(stat.st_mtime_ns / 1e9, dt.UTC).isoformat()
    return {
        "kind": "storage#object", "bucket": bucket, "name": name, "size": str(stat.st_size),
        "generation": str(stat.st_mtime_ns // 1000), "updated": updated, "timeCreated": updated,
    }  # fmt: skip


class GcsPages(http.server.ThreadingHTTPServer):
    """The server; `read` counts the objects that were read."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.lock = threading.Lock()
        self.read: collections.Counter[str] = collections.Counter()

    def handle_error(self, *args: Any) -> None:
        """Say nothing about objects that were not read to their end."""

    @property
    def url(self) -> str:
        """The address of the store."""
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def gcs_pages(folder: Path) -> Iterator[GcsPages]:
    """Serve the folders in a folder as buckets."""
    server = GcsPages(folder)
    with in_thread(server):
        yield server
