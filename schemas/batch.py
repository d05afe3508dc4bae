"""Batch mode: its settings, and the entry of a batch job in the ledger of a dataset."""

from __future__ import annotations

import dataclasses
import enum

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.quota import Tier
from bulkembed.schemas.serialization import Count
from bulkembed.schemas.units import CallCounts

MAX_JOB_ROWS = 100_000
"""The default maximum rows of a job: its results take up to about 5 GB on disk while they are
collected."""
MAX_WAIT_S = 6 * 3600.0
"""How long `--mode auto` waits for batch jobs by default."""
MAX_JOB_BYTES = 1_900_000_000
"""The default maximum bytes of a job file, below the 2 GB that the Developer API takes.

Source: ai.google.dev/gemini-api/docs/batch-api, 2026-11.
"""


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
"""The tokens of all open jobs that the Developer API accepts.  The free tier has no batch jobs.

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
    job_bytes: int = MAX_JOB_BYTES
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


class LedgerState(enum.StrEnum):
    """How far a batch job is, as the ledger has it."""

    PLANNED = "planned"
    """Its file may have been uploaded; the job was not created."""
    UPLOADED = "uploaded"
    """Its file is uploaded; the job may have been created."""
    CREATED = "created"
    """The job exists; its name is known."""
    COLLECTED = "collected"
    """Its answers are in the dataset's folder; files at the service may be left."""
    FAILED = "failed"
    """It gave no answers: its texts go into another job."""
    CLOSED = "closed"
    """Its answers are committed or not needed, and nothing is left at the service."""


@dataclasses.dataclass(frozen=True, slots=True)
class BatchJob:
    """The ledger's entry of a batch job.

    It is written before the service is asked: the display name first, so that a job whose creation
    got no answer can be found again.
    """

    display_name: str
    """Unique; also the name of its files in the dataset and at the service."""
    state: LedgerState
    rows: Count
    """Its texts."""
    tokens: Count
    """Estimated."""
    token_bound: Count
    """How many tokens it can cost at most."""
    file_bytes: Count
    contents: str
    """The digest of the hashes of its texts."""
    embedding_digest: str
    """The digest of the settings of its vectors."""
    planned_at: float
    """Epoch seconds."""
    run_number: Count = 0
    """The number of the run that collected it."""
    file: str = ""
    """The uploaded file at the service."""
    job: str = ""
    """The name of the job at the service."""
    results: tuple[str, ...] = ()
    """The files with its results at the service."""
    created_at: float | None = None
    ended_at: float | None = None
    """When its answers were collected, or it failed."""
    reason: str = ""
    """Why it gave no answers, in the service's words."""
    counts: CallCounts = dataclasses.field(default_factory=CallCounts)
    """What it cost: texts and tokens that were answered."""
    failed: Count = 0
    """Texts that the service rejected: their rows become dead letters."""
    missing: Count = 0
    """Texts that got no answer, and are sent again."""
    answers: str = ""
    """The file with its vectors, within the dataset; empty if it has none."""
