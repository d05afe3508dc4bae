"""Batch inference of an emulator's Vertex AI by raw HTTP, with buckets in a local folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from bulkembed.emulator.batch_settings import BatchSettings
from bulkembed.emulator.settings import EmulatorSettings
from support.batch_api import BatchApi, batch_api

JOBS = "/v1/projects/p/locations/us-central1/batchPredictionJobs"
MODEL = "publishers/google/models/gemini-embedding-001"


class VertexBatchApi:
    """Calls of batch inference."""

    def __init__(self, api: BatchApi, buckets: Path) -> None:
        self.api, self.buckets = api, buckets
        self.http = api.http

    def write(self, *rows: dict[str, Any] | bytes, name: str = "in.jsonl") -> str:
        """Write rows to an object; return its URI."""
        path = self.buckets / "bucket" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
        path.write_bytes(b"\n".join(lines))
        return f"gs://bucket/{name}"

    def create(self, *uris: str, path: str = JOBS, **fields: Any) -> httpx2.Response:
        """Create a job of objects."""
        body = {
            "displayName": "a job",
            "model": MODEL,
            "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": list(uris)}},
            "outputConfig": {
                "predictionsFormat": "jsonl",
                "gcsDestination": {"outputUriPrefix": "gs://bucket/out/"},
            },
        }
        return self.http.post(path, json=body | fields)

    def submit(self, *rows: dict[str, Any] | bytes, **fields: Any) -> str:
        """Write rows and create a job of them; return its name."""
        response = self.create(self.write(*rows), **fields)
        assert response.status_code == 200, response.text
        name: str = response.json()["name"]
        return name

    def get(self, name: str) -> dict[str, Any]:
        """Return a job."""
        found: dict[str, Any] = self.http.get(f"/v1/{name}").json()
        return found

    def state(self, name: str) -> str:
        """Return the state of a job."""
        state: str = self.get(name)["state"]
        return state.removeprefix("JOB_STATE_")

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Return the results of a job."""
        uri = self.get(name)["outputInfo"]["gcsOutputDirectory"]
        assert uri.startswith("gs://bucket/out/")
        folder = self.buckets / uri.removeprefix("gs://")
        texts = [path.read_text() for path in sorted(folder.iterdir())]
        return [json.loads(line) for text in texts for line in text.splitlines()]


def vertex_row(key: str, text: str, **config: Any) -> dict[str, Any]:
    """Return a row of a job's input."""
    content = {"parts": [{"text": text}]}
    config = {"output_dimensionality": 128} | config
    return {"key": key, "request": {"content": content, "embed_content_config": config}}


@contextmanager
def vertex_batch_api(folder: Path, **batch: Any) -> Iterator[VertexBatchApi]:
    """Serve an emulator with a clock that stands still, and all buckets in a folder."""
    settings = EmulatorSettings(batch=BatchSettings(buckets=(("*", str(folder)),), **batch))
    with batch_api(settings) as api:
        yield VertexBatchApi(api, folder)
