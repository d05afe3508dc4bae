"""The settings of batch jobs."""

from __future__ import annotations

import dataclasses
import enum

from bulkembed.schemas.embedding import EmbeddingConfig, Service, ServiceConfig
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.quota import Tier

MAX_JOB_ROWS = 100_000
"""The default maximum rows of a job: its results take up to about 5 GB on disk while they are
collected."""
MAX_WAIT_S = 6 * 3600.0
"""How long `--mode auto` waits for batch jobs by default."""
JOB_BYTES, VERTEX_JOB_BYTES = 2_000_000_000, 1_000_000_000
"""How many bytes of a job file the Developer API and Vertex AI take.

Source: ai.google.dev/gemini-api/docs/batch-api, 2026-11, and docs.cloud.google.com, "Batch
prediction for embeddings", 2026-09.
"""
VERTEX_JOB_ROWS = 1_000_000
"""How many rows of a job Vertex AI takes. Source: the same."""
MIN_POLL_S = 0.1
"""The shortest time between two looks at open jobs: each one is a request for each job."""
_USED_BYTES = 0.95
"""The part of these bytes that is used by default."""


class Mode(enum.StrEnum):
    """How a run gets its vectors."""

    ONLINE = "online"
    """By requests that are answered at once."""
    BATCH = "batch"
    """By batch jobs, at a lower price and outside of the online quota."""
    AUTO = "auto"
    """By batch jobs for a limited time, then online."""

    @property
    def uses_batch(self) -> bool:
        """Whether vectors come from batch jobs first."""
        return self is not Mode.ONLINE


class BatchFallback(enum.StrEnum):
    """What happens to texts that batch jobs have not answered after all attempts."""

    ONLINE = "online"
    """They are sent online, at the full price."""
    STOP = "stop"
    """The run stops."""


ENQUEUED_TOKENS = {Tier.ONE: 500_000, Tier.TWO: 5_000_000, Tier.THREE: 10_000_000}
"""The tokens of all open jobs that the Developer API accepts. The free tier has no batch jobs.

Source: ai.google.dev/gemini-api/docs/rate-limits, as last published, 2025-11.
"""


def enqueued_limit(tier: Tier | None, tokens: int | None, headroom: float) -> int | None:
    """Return the maximum tokens of all open jobs; None for no limit.

    Args:
        tier: Google's usage tier; None if it is not known.
        tokens: the limit of the project, which overrides that of the tier.
        headroom: the part of the limit that is left for estimates that are too low, in percent.
    """
    limit = ENQUEUED_TOKENS.get(tier) if tokens is None and tier is not None else tokens
    return None if limit is None else max(1, int(limit * (1 - headroom / 100)))


@dataclasses.dataclass(frozen=True, slots=True)
class BatchConfig:
    """How batch jobs are made."""

    job_rows: int = MAX_JOB_ROWS
    job_bytes: int | None = None
    """None: almost as many as the service takes."""
    enqueued_tokens: int | None = None
    """Maximum tokens of all open jobs; None: as many as the service accepts."""
    is_offered: bool = True
    """Whether the project's tier has batch jobs."""
    attempts: int = 3
    """How often a text is put into a job."""
    fallback: BatchFallback = BatchFallback.ONLINE
    max_wait_s: float | None = None
    """How long batch jobs may take in all before the remaining texts are sent online; None: as long
    as they take."""
    detach: bool = False
    """Whether the run ends once the jobs are submitted."""
    keep_remote_files: bool = False
    bucket: str | None = None
    """Where the files of jobs on Vertex AI are, as gs://bucket/folder."""
    price_factor: float | None = None
    """The price of a token in a batch job, as a part of the online price; None: the list price."""
    poll_max_s: float = 300.0
    """The longest time between two looks at the open jobs."""

    def __post_init__(self) -> None:
        for flag, value in (
            ("--batch-job-rows", self.job_rows),
            ("--batch-job-size", self.job_bytes),
            ("--enqueued-tokens", self.enqueued_tokens),
            ("--batch-attempts", self.attempts),
        ):
            if value is not None and value < 1:
                raise ConfigError(f"{flag} {value} is too low. The minimum is 1.")
        if self.poll_max_s < MIN_POLL_S:
            raise ConfigError(
                f"--batch-poll {self.poll_max_s:g}s is too low. The minimum is {MIN_POLL_S:g}s."
            )

    def max_job_bytes(self, service: ServiceConfig) -> int:
        """Return the maximum bytes of a job file for a service."""
        return self.job_bytes or int(_USED_BYTES * _job_bytes(service))

    def check_unused(self) -> None:
        """Check the options of a run without batch jobs.

        Raises:
            ConfigError: an option has no effect.
        """
        default = BatchConfig()
        for flag, name in _OF_BATCH_MODE:
            if getattr(self, name) != getattr(default, name):
                raise ConfigError(f"{flag} needs --mode batch. Add it, or remove {flag}.")

    def check_service(self, service: ServiceConfig, embedding: EmbeddingConfig) -> None:
        """Check that a service has batch jobs for a model, and the bucket for their files.

        Raises:
            ConfigError: it has none, or needs another bucket or smaller jobs.
        """
        if not self.is_offered:
            raise ConfigError(
                "--tier free has no batch jobs. Use --mode online, or the --tier of the project."
            )
        taker = "Vertex AI" if service.vertexai else "the Developer API"
        for flag, value, most, unit in (
            ("--batch-job-size", self.job_bytes, _job_bytes(service), "bytes"),
            ("--batch-job-rows", self.job_rows, _job_rows(service), "rows"),
        ):
            if value is not None and most is not None and value > most:
                raise ConfigError(
                    f"{flag} {value:,} is too high: {taker} takes at most {most:,} {unit}."
                )
        if not service.vertexai:
            if self.bucket is not None:
                raise ConfigError("--batch-bucket works with --vertexai only. Remove it.")
            return
        if self.bucket is None:
            raise ConfigError(
                "--mode batch on Vertex AI needs a bucket for job files and results. Add "
                "--batch-bucket gs://BUCKET/FOLDER."
            )
        if service.predicts(embedding.spec):
            raise ConfigError(
                f"--mode batch on Vertex AI does not support --model {embedding.spec.name}, only "
                "Gemini's models. Use --mode online."
            )
        # A local server may know a local folder as a bucket.
        is_here = service.is_loopback or service.kind is Service.EMULATOR
        if service.vertex_project is None and not is_here:
            raise ConfigError(
                "--mode batch on Vertex AI does not work with a key. Use --vertex-project and "
                "--vertex-location."
            )
        if not self.bucket.startswith("gs://") and ("://" in self.bucket or not is_here):
            raise ConfigError(
                f"--batch-bucket {self.bucket}: use gs://BUCKET or gs://BUCKET/FOLDER."
            )


def _job_bytes(service: ServiceConfig) -> int:
    return VERTEX_JOB_BYTES if service.vertexai else JOB_BYTES


def _job_rows(service: ServiceConfig) -> int | None:
    """Return how many rows of a job a service takes; None if that is not published."""
    return VERTEX_JOB_ROWS if service.vertexai else None


_OF_BATCH_MODE = (
    ("--detach", "detach"),
    ("--batch-attempts", "attempts"),
    ("--batch-fallback", "fallback"),
    ("--batch-poll", "poll_max_s"),
    ("--batch-bucket", "bucket"),
    ("--keep-remote-files", "keep_remote_files"),
)
"""The options without any effect on a run or an estimate without batch jobs, and their fields."""
