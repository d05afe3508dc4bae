"""A proxy before an object store: it counts the requests, and fails some of them on purpose."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import http.client
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from support.server_threads import in_thread

SLOW_S = 1.0
_OF_THE_CONNECTION = frozenset({"transfer-encoding", "connection", "content-length", "keep-alive"})


class Fault(enum.Enum):
    """What becomes of a request."""

    ERROR = "the store answers 500, and has done nothing"
    SLOW = "the answer takes a second longer"
    CUT = "the connection is closed when half of the body is read"
    LOST = "the store has done it, and the connection is closed before the answer"
    HALF = "the store keeps the first half of the body, and says that it has done it"


_HOW_FAR = "bytes */*"
"""Google's client asks so what has come of an upload after a 500. The service says 308, and where
nothing has come, no range (cloud.google.com/storage/docs/performing-resumable-uploads#status-check,
2026-11); fake-gcs-server takes it for the end of the upload, and stores an empty file."""


@dataclasses.dataclass(frozen=True)
class Request:
    """A request as it came in; `path` with the query; `status` 0 where none was answered."""

    method: str
    path: str
    body_bytes: int
    status: int
    answer_bytes: int = 0
    """The bytes of the answer's body, also of those that the client did not wait for."""

    @property
    def kind(self) -> str:
        """GET, PUT and so on, or LIST for a page of a listing."""
        path, _, query = self.path.partition("?")
        s3 = "list-type=" in query or ("prefix=" in query and "uploadId" not in query)
        gcs = path.endswith("/o")
        listing = self.method == "GET" and (s3 or gcs or "comp=list" in query.split("&"))
        return "LIST" if listing else self.method


class StoreProxy:
    """Forwards to a store at `upstream` (host:port); a context manager."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.fault: Callable[[str, str, int], Fault | None] = lambda method, path, number: None
        """Told method, path and the number of a request, from 1, says what goes wrong with it."""
        self.hidden: frozenset[str] = frozenset()
        """Headers of answers, in lower case, that no client gets."""
        self.requests: list[Request] = []
        self.faults: Counter[Fault] = Counter()
        self._lock = threading.Lock()
        self._seen = 0
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._thread = in_thread(self._server)

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> StoreProxy:
        self._thread.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._thread.__exit__(*error)

    def forget(self) -> None:
        """Counts from nothing again."""
        with self._lock:
            self.requests.clear()
            self.faults.clear()

    def kinds(self) -> Counter[str]:
        """The number of requests of each kind."""
        with self._lock:
            return Counter(request.kind for request in self.requests)

    def listings(self, folder: str) -> int:
        """How many pages of a listing of such a folder were asked for."""
        with self._lock:
            asked = [unquote(r.path) for r in self.requests if r.kind == "LIST"]
        return sum(folder in path for path in asked)

    def touching(self, folder: str) -> int:
        """How many requests of any kind were about such a folder."""
        with self._lock:
            return sum(folder in unquote(request.path) for request in self.requests)

    def next_fault(self, method: str, path: str) -> Fault | None:
        """What goes wrong with a request that has just come in."""
        with self._lock:
            self._seen += 1
            fault = self.fault(method, path, self._seen)
            if fault is not None:
                self.faults[fault] += 1
            return fault

    def note(self, request: Request) -> None:
        """Counts a request."""
        with self._lock:
            self.requests.append(request)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    proxy: StoreProxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is killed hangs up; that is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def handle_expect_100(self) -> bool:
        """Lets a client go on that waits for this word with a body."""
        if "Transfer-Encoding" in self.headers or int(self.headers.get("Content-Length") or 0):
            self.send_response_only(100)
            self.end_headers()
            self.wfile.flush()
        return True

    def _forward(self) -> None:
        proxy = self.server.proxy
        fault = proxy.next_fault(self.command, self.path)
        length = int(self.headers.get("Content-Length") or 0)
        if fault is Fault.CUT:
            proxy.note(Request(self.command, self.path, 0, 0))
            self._cut(length // 2)
            return
        body = self._body(length)
        if fault is Fault.ERROR:
            self._answer(500, [], b"")
            proxy.note(Request(self.command, self.path, len(body), 500))
            return
        if fault is Fault.SLOW:
            time.sleep(SLOW_S)
        if self.headers.get("Content-Range") == _HOW_FAR:
            self._answer(308, [], b"")
            proxy.note(Request(self.command, self.path, 0, 308))
            return
        if fault is Fault.HALF:
            body = body[: len(body) // 2]
        status, headers, answer = self._ask(body)
        seen_status = 0 if fault is Fault.LOST else status
        proxy.note(Request(self.command, self.path, len(body), seen_status, len(answer)))
        if fault is Fault.LOST:
            self._cut(0)
        else:
            self._answer(status, headers, answer)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = _forward

    def _body(self, length: int) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(length)
        whole = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(whole)

    def _cut(self, after: int) -> None:
        self.rfile.read(after)
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection(self.server.proxy.upstream, timeout=60)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in (*_OF_THE_CONNECTION, "expect"):
                    upstream.putheader(name, value)
            if body or self.command in ("PUT", "POST", "PATCH"):
                upstream.putheader("Content-Length", str(len(body)))
            upstream.putheader("Connection", "close")
            upstream.endheaders(body)
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            upstream.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        length = str(len(body))
        for name, value in headers:
            if name.lower() in self.server.proxy.hidden:
                continue
            if name.lower() not in _OF_THE_CONNECTION:
                self.send_header(name, value)
            elif name.lower() == "content-length" and self.command == "HEAD":
                length = value
        if status not in (204, 304):
            self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
