"""A server that takes jobs as Dataflow's REST interface does; it runs none."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
from collections.abc import Iterator
from typing import Any

from support.server_threads import in_thread

MESSAGE = {
    "id": "m1",
    "time": "2026-11-23T00:00:00Z",
    "messageText": "The job failed.",
    "messageImportance": "JOB_MESSAGE_ERROR",
}


@dataclasses.dataclass
class Service:
    """What was asked of it, and the state that it says a job is in."""

    url: str
    end_state: str = "JOB_STATE_DONE"
    jobs: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """The job requests, parsed."""


@contextlib.contextmanager
def dataflow_service() -> Iterator[Service]:
    """The server, on a port of its own; `localhost` in its name makes Beam speak REST to it."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            service.jobs.append(job)
            taken = {"id": "job-1", "clientRequestId": job["clientRequestId"], "name": job["name"]}
            self.say({**taken, "currentState": "JOB_STATE_RUNNING"})

        def do_GET(self) -> None:
            asked = self.path.partition("?")[0].rpartition("/")[2]
            answers = {
                "job-1": {"id": "job-1", "currentState": service.end_state},
                "messages": {"jobMessages": [MESSAGE]},
            }
            self.say(answers.get(asked, {}))

        def say(self, what: object) -> None:
            body = json.dumps(what).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    service = Service(f"http://localhost:{server.server_port}")
    with in_thread(server):
        yield service
