"""Each worker's part of the quota, and of the calls that may be in the air."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import TYPE_CHECKING

from bulkembed.schemas.embedding import Service
from bulkembed.schemas.job import EmbedderConfig, JobConfig
from bulkembed.schemas.quota import Pace, QuotaLimits, RpmCounts, Tier

if TYPE_CHECKING:
    from bulkembed.transforms.core.packing import CallLimits


NO_LIMITS: tuple[int | None, int | None, int | None] = (None, None, None)

TIERS: dict[Tier, tuple[int | None, int | None, int | None]] = {
    Tier.FREE: (100, 30_000, 1_000),
    Tier.ONE: (3_000, 1_000_000, None),
    Tier.TWO: (5_000, 5_000_000, None),
    Tier.THREE: (10_000, 10_000_000, None),
}
"""RPM, TPM, RPD.  Source: ai.google.dev/gemini-api/docs/rate-limits, as last published, 2025-11."""

VERTEX: dict[str, tuple[int | None, int | None, int | None]] = {
    "gemini-embedding-001": (None, 5_000_000, None),
    "gemini-embedding-2": (40_000, 10_000_000, None),
}
"""Source: cloud.google.com/vertex-ai/generative-ai/docs/quotas, 2026-11; new projects get less."""

VERTEX_CALL_TOKENS = 20_000
"""Most tokens of one Vertex `:predict` call.  Source: cloud.google.com/vertex-ai, 2026-11."""


def call_limits(config: EmbedderConfig) -> CallLimits:
    """The most that one call may hold, whatever the quota."""
    # The command's help needs the limits of a run, and not numpy.
    from bulkembed.transforms.core.packing import CallLimits

    predicts = config.service.predicts(config.embedding.spec.name)
    return CallLimits(texts=config.calls.texts, tokens=VERTEX_CALL_TOKENS if predicts else None)


def limits_for(
    service: Service,
    model: str,
    *,
    tier: Tier | None = None,
    rpm: int | None = None,
    tpm: int | None = None,
    rpd: int | None = None,
    rpm_counts: RpmCounts = RpmCounts.TEXTS,
    pace: Pace = Pace.WINDOW,
    share: Fraction = Fraction(1),
) -> QuotaLimits:
    """The limits of a run; each flag outweighs the tier, and 0 stands for no limit.

    Raises:
        ConfigError: a limit below 0.
    """
    known = _known(service, model, tier)
    chosen = [
        default if flag is None else (flag or None)
        for flag, default in zip((rpm, tpm, rpd), known, strict=True)
    ]
    return QuotaLimits(chosen[0], chosen[1], chosen[2], rpm_counts, pace, share)


def _known(
    service: Service, model: str, tier: Tier | None
) -> tuple[int | None, int | None, int | None]:
    if tier is not None:
        return TIERS[tier]
    if service is Service.DEVELOPER:
        return TIERS[Tier.ONE]
    return VERTEX.get(model, NO_LIMITS) if service is Service.VERTEX else NO_LIMITS


def share_quota(job: JobConfig, workers: int | None) -> JobConfig:
    """The job with each worker's share of the quota, unless `--quota-share` says it already."""
    limits = job.calls.limits
    if not workers or limits.share != 1:
        return job
    limits = dataclasses.replace(limits, share=Fraction(1, workers))
    return dataclasses.replace(job, calls=dataclasses.replace(job.calls, limits=limits))


def share_calls(job: JobConfig, processes: int) -> JobConfig:
    """The job with each process's part of the calls that may be in the air."""
    calls = dataclasses.replace(job.calls, concurrency=max(1, job.calls.concurrency // processes))
    return dataclasses.replace(job, calls=calls)
