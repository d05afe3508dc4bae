"""Batch jobs over the docstrings of `make run`, on both services, compared with online requests."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from bulkembed.emulator.batch_settings import BatchSettings
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from support.cli import read, run, summary
from support.google_login import credentials
from support.killing import leftovers

SERVICES = ("developer", "vertex")
VERTEX = ("--vertexai", "--vertex-project", "p", "--vertex-location", "us-central1")
OF_DATASET = ("--dim", "128", "--unit-rows", "300")
OF_JOBS = ("--mode", "batch", "--batch-poll", "0.1s", "--batch-job-rows", "700")


@dataclasses.dataclass(frozen=True)
class DocstringJobs:
    """A service with batch jobs, and the options of runs on it."""

    server: EmulatorServer
    online: tuple[str, ...]
    """The options of an online run."""
    batch: tuple[str, ...]
    environ: dict[str, str]
    """What a process needs to sign in."""

    def check(self, output: Path, corpus: Path, folder: Path) -> None:
        """Fail unless a batch run wrote what an online run writes, and paid for each text once."""
        stats: dict[str, Any] = self.server.stats()
        assert (stats["calls"], stats["texts_paid_twice"]) == (0, 0)
        assert (stats["batch"]["jobs_left"], stats["batch"]["files_left"]) == (0, 0)
        assert run(self.server.url, corpus, folder / "online", *self.online).code == 0
        _check_rows(read(output), read(folder / "online"))
        one, other = summary(output), summary(folder / "online")
        assert one["dataset"] == other["dataset"]
        assert one["batch"]["texts"] == other["counts"]["texts"] == stats["distinct_texts"] > 2000
        assert one["batch"]["jobs"] == stats["batch"]["jobs_created"] > 2
        assert one["batch"]["tokens"] == other["counts"]["tokens"]
        assert leftovers(output) == []


def _check_rows(batch: pa.Table, online: pa.Table) -> None:
    """Rows are equal, vectors bit by bit; batch jobs tell of more texts whether they were cut."""
    flags = [table["truncated"].to_pylist() for table in (batch, online)]
    known = [pair for pair in zip(*flags, strict=True) if pair[1] is not None]
    assert known
    assert all(one == other for one, other in known)
    assert batch.drop_columns(["truncated"]).equals(online.drop_columns(["truncated"]))


@contextmanager
def docstring_jobs(service: str, folder: Path) -> Iterator[DocstringJobs]:
    """Serve one of `SERVICES`; the bucket of Vertex AI is below the folder."""
    buckets = folder / "buckets"
    (buckets / "bucket").mkdir(parents=True)
    settings = BatchSettings(seconds=0.5, buckets=(("*", str(buckets)),))
    with credentials(folder) as login, EmulatorServer(EmulatorSettings(batch=settings)) as server:
        if service == "vertex":
            online, environ = (*VERTEX, *OF_DATASET), login
            batch = (*online, *OF_JOBS, "--batch-bucket", str(buckets / "bucket"))
        else:
            online, environ = OF_DATASET, {}
            batch = (*online, *OF_JOBS)
        yield DocstringJobs(server, online, batch, environ)
