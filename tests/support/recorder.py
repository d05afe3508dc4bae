"""A loopback server that passes every request on to an emulator and keeps the bodies."""

from __future__ import annotations

import http.server
from typing import Any, Self

import httpx2
import orjson

from support.server_threads import in_thread


class RecordingServer:
    """Records the JSON body of each request; `texts` are those of the embed calls, in order."""

    def __init__(self, emulator_url: str) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.sizes: list[int] = []
        recorder = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                recorder.sizes.append(len(body))
                recorder.bodies.append(orjson.loads(body))
                headers = {"x-goog-api-key": "x", "Content-Type": "application/json"}
                answer = httpx2.post(
                    emulator_url + self.path, content=body, headers=headers, timeout=60
                )
                self.send_response(answer.status_code)
                self.send_header("Content-Type", answer.headers["Content-Type"])
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = in_thread(self._server)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def texts(self) -> list[str]:
        """The texts that were sent."""
        requests = [request for body in self.bodies for request in body.get("requests", ())]
        return [request["content"]["parts"][0]["text"] for request in requests]

    @property
    def titles(self) -> list[str | None]:
        """The titles that were sent beside the texts."""
        return [r.get("title") for body in self.bodies for r in body.get("requests", ())]

    def __enter__(self) -> Self:
        self._thread.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._thread.__exit__(*error)
