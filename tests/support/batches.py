"""A batch client against an emulator whose clock stands still."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bulkembed.emulator.batch_settings import BatchSettings
from bulkembed.emulator.quotas import Clock
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.schemas.embedding import EmbeddingConfig, Service, ServiceConfig
from bulkembed.transforms.clients.batch_lines import BatchLine, decode_line
from bulkembed.transforms.clients.batch_requests import BatchLineWriter
from bulkembed.transforms.clients.batch_service import BatchService, open_batch_service
from bulkembed.transforms.clients.remote_jobs import RemoteJob
from bulkembed.transforms.clients.retry_policy import RetryPolicy
from support.batch_api import FakeTime
from support.gemini import config_of, items
from support.google_login import credentials

KEY = "a-key-of-some-length"
TIMEOUT_S = 60.0
"""How long calls are retried, by the waits between them."""


def impatient(waits: list[float]) -> RetryPolicy:
    """A policy that waits no real time, and notes its waits."""
    return RetryPolicy(TIMEOUT_S, sleep=waits.append, clock=lambda: sum(waits))


@dataclasses.dataclass
class Batches:
    """A client, its emulator, and what it waited."""

    client: BatchService
    server: EmulatorServer
    key: str
    """With which the emulator answers online calls."""
    service: ServiceConfig
    embedding: EmbeddingConfig
    time: FakeTime
    folder: Path
    waits: list[float]

    def job_file(self, texts: Sequence[str], name: str = "job.jsonl") -> Path:
        """A job file with one line for each text."""
        writer = BatchLineWriter(self.service, self.embedding)
        facts = {"model": self.embedding.model, "task_type": self.embedding.task_type}
        path = self.folder / name
        path.write_bytes(b"".join(map(writer.line, items(list(texts), **facts))))
        return path

    def upload(self, path: Path, name: str = "job-1") -> str:
        """Upload a file."""
        return self.client.upload(path, name)

    def submit(self, texts: Sequence[str], name: str = "job-1") -> RemoteJob:
        """Upload texts and create a job."""
        return self.client.create(self.upload(self.job_file(texts), name), name)

    def lines(self, job: RemoteJob) -> list[BatchLine]:
        """Download and decode the results of a job."""
        path = self.folder / "results.jsonl"
        self.client.download(job, path)
        lines = path.read_bytes().splitlines()
        return [decode_line(line, self.embedding.out_dim) for line in lines]

    @property
    def counts(self) -> dict[str, Any]:
        """The emulator's counts of files and jobs."""
        counts: dict[str, Any] = self.server.stats()["batch"]
        return counts


@contextmanager
def batches(
    folder: Path,
    *,
    model: str = "gemini-embedding-001",
    key: str = KEY,
    timeout_s: float = 20,
    **batch: Any,
) -> Iterator[Batches]:
    """A client of the Developer API; `batch` are the emulator's settings of batch jobs."""
    settings = EmulatorSettings(api_key=KEY, batch=BatchSettings(**batch))
    facts = {"api_version": "v1beta", "timeout_s": timeout_s}
    with _opened(folder, settings, facts, config_of(dim=128, model=model), key, None) as one:
        yield one


@contextmanager
def vertex_batches(
    folder: Path, *, model: str = "gemini-embedding-001", timeout_s: float = 20, **batch: Any
) -> Iterator[Batches]:
    """The same for Vertex AI, with a bucket that is a local folder."""
    bucket = folder / "buckets/bucket"
    bucket.mkdir(parents=True)
    settings = EmulatorSettings(
        batch=BatchSettings(buckets=(("*", str(folder / "buckets")),), **batch)
    )
    location = "global" if model == "gemini-embedding-2" else "us-central1"
    facts = {
        "api_version": "v1beta1", "vertexai": True, "vertex_project": "p",
        "vertex_location": location, "timeout_s": timeout_s,
    }  # fmt: skip
    embedding = config_of(dim=128, model=model)
    with credentials(folder) as environ, pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        with _opened(folder, settings, facts, embedding, None, str(bucket)) as one:
            yield one


@contextmanager
def _opened(
    folder: Path,
    settings: EmulatorSettings,
    facts: dict[str, Any],
    embedding: EmbeddingConfig,
    key: str | None,
    bucket: str | None,
) -> Iterator[Batches]:
    time, waits = FakeTime(), list[float]()
    with EmulatorServer(settings, Clock(time)) as server:
        service = ServiceConfig(kind=Service.CUSTOM, base_url=server.url, **facts)
        client = open_batch_service(service, embedding, key, bucket, impatient(waits))
        try:
            yield Batches(client, server, KEY, service, embedding, time, folder, waits)
        finally:
            client.close()
