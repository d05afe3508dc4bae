"""Batch mode over the docstrings of `make run` writes the dataset of online requests."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli import run
from support.docstring_jobs import SERVICES, docstring_jobs

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("service", SERVICES)
def test_docstrings_get_the_vectors_of_online_requests_on_a_disk(
    service: str, workers: int, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with docstring_jobs(service, tmp_path) as jobs:
        for name, value in jobs.environ.items():
            monkeypatch.setenv(name, value)
        ended = run(jobs.server.url, corpus, out, *jobs.batch, "--workers", workers)
        assert ended.code == 0, ended.err
        jobs.check(out, corpus, tmp_path)
