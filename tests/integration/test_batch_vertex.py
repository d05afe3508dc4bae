"""What batch jobs of Vertex AI have of their own; see test_batch_services.py for the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.batches import vertex_batches
from support.gemini import TEXTS

from bulkembed.schemas.embedding import Service, ServiceConfig
from bulkembed.schemas.errors import CallRejected, JobRejected
from bulkembed.transforms.clients.batch_service import open_batch_service
from bulkembed.transforms.clients.remote_jobs import RemoteState
from bulkembed.transforms.clients.retry_policy import RetryPolicy


def test_a_job_that_is_not_over_yet_is_not_deleted(tmp_path: Path) -> None:
    with vertex_batches(tmp_path, seconds=100, cancel_seconds=50) as one:
        name = one.submit(TEXTS).name
        one.client.cancel(name)
        one.client.delete_job(name)
        one.time.now_s += 100
        assert one.counts["jobs_left"] == 1
        one.client.delete_job(name)
        assert one.counts["jobs_left"] == 0


def test_a_paused_job_is_not_over(tmp_path: Path) -> None:
    with vertex_batches(tmp_path, outcomes=("paused@10",)) as one:
        name = one.submit(TEXTS).name
        one.time.now_s += 20
        job = one.client.get(name)
        assert job is not None
        assert (job.state, job.state.is_over, job.reason) == (RemoteState.PAUSED, False, "")


def test_a_cancelled_job_gives_the_rows_that_were_finished(tmp_path: Path) -> None:
    with vertex_batches(tmp_path, seconds=100, pending_share=0, vertex_files=1) as one:
        name = one.submit([f"text {number}" for number in range(40)]).name
        one.time.now_s += 50
        one.client.cancel(name)
        one.client.cancel(name)
        job = one.client.get(name)
        assert job is not None
        assert job.state is RemoteState.CANCELLED
        lines = one.lines(job)
        assert 0 < len(lines) < 40
        assert all(line.error is None for line in lines)


def test_a_region_without_batch_jobs_is_rejected(tmp_path: Path) -> None:
    with vertex_batches(tmp_path) as one:
        file = one.upload(one.job_file(TEXTS))
        service = ServiceConfig(
            kind=Service.CUSTOM, base_url=one.server.url, api_version="v1", vertexai=True,
            vertex_project="p", vertex_location="asia-east1",
        )  # fmt: skip
        client = open_batch_service(
            service, one.embedding, None, str(tmp_path / "buckets/bucket"), RetryPolicy()
        )
        with pytest.raises(CallRejected, match="asia-east1"):
            client.create(file, "job-1")
        client.close()


def test_without_credentials_the_way_to_sign_in_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with vertex_batches(tmp_path) as one:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
        with pytest.raises(JobRejected, match="gcloud auth"):
            one.client.get("projects/p/locations/l/batchPredictionJobs/1")
