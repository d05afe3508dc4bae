from __future__ import annotations

from typing import Any

import pytest
from support.gemini import config_of

from bulkembed.schemas.batch import BatchConfig, BatchFallback
from bulkembed.schemas.embedding import Service, ServiceConfig
from bulkembed.schemas.errors import ConfigError

VERTEX: dict[str, Any] = {
    "kind": Service.VERTEX, "vertexai": True, "vertex_project": "p",
    "vertex_location": "us-central1",
}  # fmt: skip
HERE = VERTEX | {"kind": Service.CUSTOM, "base_url": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("service", "model", "bucket", "words"),
    [
        ({}, "gemini-embedding-001", "gs://bucket", "works with --vertexai only"),
        (VERTEX, "gemini-embedding-001", None, "needs a bucket"),
        (VERTEX, "gemini-embedding-001", "/tmp/folder", "use gs://BUCKET"),
        (VERTEX, "gemini-embedding-001", "s3://bucket?region=eu-west-1", "use gs://BUCKET"),
        (HERE, "gemini-embedding-001", "s3://bucket?region=eu-west-1", "use gs://BUCKET"),
        (VERTEX, "text-embedding-005", "gs://bucket", "does not support --model"),
        (
            {"kind": Service.VERTEX, "vertexai": True}, "gemini-embedding-001", "gs://bucket",
            "does not work with a key",
        ),
    ],
)  # fmt: skip
def test_a_service_that_cannot_do_it_is_refused(
    service: dict[str, Any], model: str, bucket: str | None, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        BatchConfig(bucket=bucket).check_service(ServiceConfig(**service), config_of(model=model))


@pytest.mark.parametrize(
    ("service", "bucket"), [({}, None), (VERTEX, "gs://bucket/x"), (HERE, "/tmp/buckets/bucket")]
)
def test_a_service_with_all_that_it_needs_is_accepted(
    service: dict[str, Any], bucket: str | None
) -> None:
    BatchConfig(bucket=bucket).check_service(ServiceConfig(**service), config_of())


@pytest.mark.parametrize(
    ("service", "given", "words"),
    [
        ({}, {"job_bytes": 2_000_000_001}, "--batch-job-size .* takes at most 2,000,000,000 bytes"),
        (VERTEX, {"job_bytes": 1_100_000_000}, "Vertex AI takes at most 1,000,000,000 bytes"),
        (VERTEX, {"job_rows": 1_000_001}, "--batch-job-rows .* takes at most 1,000,000 rows"),
    ],
)
def test_a_job_larger_than_the_service_takes_is_refused(
    service: dict[str, Any], given: dict[str, Any], words: str
) -> None:
    bucket = "gs://bucket" if service else None
    with pytest.raises(ConfigError, match=words):
        BatchConfig(bucket=bucket, **given).check_service(ServiceConfig(**service), config_of())


def test_jobs_are_not_looked_at_without_a_pause() -> None:
    with pytest.raises(ConfigError, match=r"--batch-poll 0s is too low\. The minimum"):
        BatchConfig(poll_max_s=0)


@pytest.mark.parametrize("service", [{}, VERTEX])
def test_the_default_size_of_a_job_is_below_that_of_the_service(service: dict[str, Any]) -> None:
    of_service = ServiceConfig(**service)
    settings = BatchConfig(bucket="gs://bucket" if service else None)
    assert settings.max_job_bytes(of_service) < (1e9 if service else 2e9)
    settings.check_service(of_service, config_of())


@pytest.mark.parametrize(
    ("flag", "given"),
    [
        ("--detach", {"detach": True}),
        ("--batch-attempts", {"attempts": 5}),
        ("--batch-fallback", {"fallback": BatchFallback.STOP}),
        ("--batch-poll", {"poll_max_s": 1.0}),
        ("--batch-bucket", {"bucket": "gs://bucket"}),
        ("--keep-remote-files", {"keep_remote_files": True}),
    ],
)
def test_an_option_without_effect_is_refused(flag: str, given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{flag} needs --mode batch. Add it, or remove {flag}"):
        BatchConfig(**given).check_unused()


def test_options_that_the_estimate_shows_need_no_batch_mode() -> None:
    BatchConfig(job_rows=5, job_bytes=5, enqueued_tokens=5, price_factor=0.4).check_unused()
