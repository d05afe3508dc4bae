"""The Batch API of an emulator by raw HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from bulkembed.emulator.batch_settings import BatchSettings
from bulkembed.emulator.quotas import Clock
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

MODEL = "gemini-embedding-001"


class FakeTime:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


class BatchApi:
    """Calls of the Batch API, each as one HTTP request."""

    def __init__(self, server: EmulatorServer, http: httpx2.Client, time: FakeTime) -> None:
        self.server, self.http, self.time = server, http, time

    def start(
        self, size: int, file: dict[str, Any] | None = None, **headers: str
    ) -> httpx2.Response:
        """Begin an upload."""
        return self.http.post(
            "/upload/v1beta/files",
            json={"file": file or {}},
            headers={
                "X-Goog-Upload-Protocol": "resumable",
                "X-Goog-Upload-Command": "start",
                "X-Goog-Upload-Header-Content-Length": str(size),
                "X-Goog-Upload-Header-Content-Type": "application/jsonl",
            } | headers,
        )  # fmt: skip

    def step(
        self, url: str, command: str, offset: int = 0, data: bytes = b"", timeout: float = 10
    ) -> httpx2.Response:
        """Send a further step of an upload."""
        headers = {"X-Goog-Upload-Command": command, "X-Goog-Upload-Offset": str(offset)}
        return self.http.post(url, headers=headers, content=data, timeout=timeout)

    def upload(self, data: bytes, **file: Any) -> str:
        """Upload a file in two steps; return its name."""
        url = self.start(len(data), file).headers["x-goog-upload-url"]
        name: str = self.step(url, "upload, finalize", 0, data).json()["file"]["name"]
        return name

    def create(self, batch: dict[str, Any], model: str = MODEL) -> httpx2.Response:
        """Create a job."""
        return self.http.post(
            f"/v1beta/models/{model}:asyncBatchEmbedContent", json={"batch": batch}
        )

    def submit(self, *rows: dict[str, Any] | bytes, name: str = "job", model: str = MODEL) -> str:
        """Upload rows and create a job; return the job's name."""
        data = b"".join(
            (row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows
        )
        batch = {"displayName": name, "inputConfig": {"file_name": self.upload(data)}}
        response = self.create(batch, model)
        assert response.status_code == 200, response.text
        job: str = response.json()["name"]
        return job

    def get(self, name: str) -> dict[str, Any]:
        """Return the JSON of a job or file."""
        found: dict[str, Any] = self.http.get(f"/v1beta/{name}").json()
        return found

    def state(self, name: str) -> str:
        """Return the state of a job."""
        state: str = self.get(name)["metadata"]["state"]
        return state.removeprefix("BATCH_STATE_")

    def download(self, name: str, **headers: str) -> httpx2.Response:
        """Download a file."""
        return self.http.get(f"/v1beta/{name}:download", params={"alt": "media"}, headers=headers)

    def lines(self, job: str) -> list[dict[str, Any]]:
        """Return the results of a job."""
        file = self.get(job)["metadata"]["output"]["responsesFile"]
        return [json.loads(line) for line in self.download(file).content.splitlines()]

    @property
    def counts(self) -> dict[str, Any]:
        """The emulator's counts of files and jobs."""
        counts: dict[str, Any] = self.server.stats()["batch"]
        return counts


def row(key: str, text: str, **options: Any) -> dict[str, Any]:
    """Return a row of a job's input."""
    content = {"parts": [{"text": text}]}
    return {"key": key, "request": {"content": content, "output_dimensionality": 128} | options}


@contextmanager
def batch_api(settings: EmulatorSettings | None = None, **batch: Any) -> Iterator[BatchApi]:
    """Serve an emulator with a clock that stands still."""
    time = FakeTime()
    settings = settings or EmulatorSettings(batch=BatchSettings(**batch))
    with (
        EmulatorServer(settings, Clock(time)) as server,
        httpx2.Client(base_url=server.url, headers={"x-goog-api-key": "k"}, timeout=10) as http,
    ):
        yield BatchApi(server, http, time)
