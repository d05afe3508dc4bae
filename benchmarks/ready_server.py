"""A server of ready-made answers, which costs little beside the job.

    python -m benchmarks.ready_server EMULATOR_URL LATENCY_MS

It prints its address. Requests of the same path, encoding and number of texts get the same bytes,
which the first of them has fetched from the emulator.
"""

from __future__ import annotations

import contextlib
import socketserver
import sys
import threading
import time
import urllib.parse

import httpx2

_TEXT = b'"content":'
"""Once in a request for each text."""
_SENT_ON = ("content-type", "accept-encoding", "user-agent", "x-goog-api-key")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, target: str, latency_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.latency_s = latency_s
        self._target = target
        self._answers: dict[tuple[str, str, int], bytes] = {}
        self._lock = threading.Lock()

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> bytes:
        """Return the whole answer to a request, with its head."""
        key = (path, headers["accept-encoding"], body.count(_TEXT))
        with self._lock:
            if key not in self._answers:
                self._answers[key] = self._fetched(path, headers, body)
            return self._answers[key]

    def _fetched(self, path: str, headers: dict[str, str], body: bytes) -> bytes:
        sent = {name: headers[name] for name in _SENT_ON}
        with httpx2.stream(
            "POST", self._target + path, content=body, headers=sent, trust_env=False, timeout=60
        ) as answer:
            content = b"".join(answer.iter_raw())
        answer.raise_for_status()
        lines = [f"{name}: {value}" for name, value in answer.headers.items()]
        return "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode() + content


class _Connection(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        """Answer the requests of a connection, one after the other."""
        with contextlib.suppress(ConnectionError):
            while line := self.rfile.readline():
                headers = {}
                while field := self.rfile.readline().strip():
                    name, _, value = field.decode().partition(":")
                    headers[name.lower()] = value.strip()
                body = self.rfile.read(int(headers["content-length"]))
                answer = self.server.answer(line.split()[1].decode(), headers, body)
                time.sleep(self.server.latency_s)
                self.connection.sendall(answer)


def main() -> None:
    """Serve until the process is ended."""
    target, latency_ms = sys.argv[1:]
    with _Server(target, int(latency_ms) / 1000) as server:
        host, port = server.server_address[:2]
        print(urllib.parse.urlunsplit(("http", f"{host!s}:{port}", "", "", "")), flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
