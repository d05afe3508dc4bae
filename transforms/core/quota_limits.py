"""Quota limits: defaults by tier, shares of workers, and the minimum duration of a job."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import TYPE_CHECKING

from bulkembed.schemas.embedding import Service
from bulkembed.schemas.job import EmbedderConfig, JobConfig
from bulkembed.schemas.models import DefaultQuota, find_model
from bulkembed.schemas.quota import Pace, QuotaKind, QuotaLimits, RpmCounts, Tier
from bulkembed.transforms.core.quota_state import MARGIN_S, WINDOW_S

if TYPE_CHECKING:
    from bulkembed.transforms.core.packing import CallLimits

NO_QUOTA: DefaultQuota = (None, None, None)

TIERS: dict[Tier, DefaultQuota] = {
    Tier.FREE: (100, 30_000, 1_000),
    Tier.ONE: (3_000, 1_000_000, None),
    Tier.TWO: (5_000, 5_000_000, None),
    Tier.THREE: (10_000, 10_000_000, None),
}
"""Source: ai.google.dev/gemini-api/docs/rate-limits, as last published, 2025-11."""

MAX_MEDIA_BODY_BYTES = 3_500_000
"""Of a call that several contents with media share; one content alone may be larger. The service
says nothing about media: 4 MiB is its limit for texts."""
DAY_S = 86_400.0


def max_call_size(config: EmbedderConfig) -> CallLimits:
    """Return what one call may hold at most, apart from the quota."""
    # The CLI's help imports this module, and must not wait for numpy.
    from bulkembed.transforms.core.content import BODY_MARGIN_BYTES
    from bulkembed.transforms.core.packing import CallLimits

    spec, texts = config.embedding.spec, config.call_texts
    body_bytes = spec.max_body_bytes - BODY_MARGIN_BYTES
    if config.embedding.media is not None:
        body_bytes = min(body_bytes, MAX_MEDIA_BODY_BYTES)
    if config.service.predicts(spec):
        return CallLimits(min(texts, spec.predict_texts), spec.predict_tokens, body_bytes)
    return CallLimits(texts, None, body_bytes)


def resolve_limits(
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
    """Return the limits of a run: each flag overrides the tier, and 0 means no limit.

    Raises:
        ConfigError: a limit is below 0.
    """
    defaults = _default_limits(service, model, tier)
    chosen = [
        default if flag is None else (flag or None)
        for flag, default in zip((rpm, tpm, rpd), defaults, strict=True)
    ]
    return QuotaLimits(chosen[0], chosen[1], chosen[2], rpm_counts, pace, share)


def _default_limits(service: Service, model: str, tier: Tier | None) -> DefaultQuota:
    if tier is not None:
        return TIERS[tier]
    if service is Service.DEVELOPER:
        return TIERS[Tier.ONE]
    return find_model(model).vertex_quota if service is Service.VERTEX else NO_QUOTA


def split_quota(job: JobConfig, workers: int | None) -> JobConfig:
    """Return the job with each worker's share of the quota, unless `--quota-share` sets it."""
    limits = job.calls.limits
    if not workers or limits.share != 1:
        return job
    limits = dataclasses.replace(limits, share=Fraction(1, workers))
    return dataclasses.replace(job, calls=dataclasses.replace(job.calls, limits=limits))


def split_concurrency(job: JobConfig, processes: int) -> JobConfig:
    """Return the job with each process's part of the calls in flight."""
    concurrency = max(1, job.calls.concurrency // processes)
    return dataclasses.replace(job, calls=dataclasses.replace(job.calls, concurrency=concurrency))


@dataclasses.dataclass(frozen=True, slots=True)
class QuotaTime:
    """The minimum duration of a job under each limit alone, in seconds."""

    by_limit: dict[QuotaKind, float]
    """Only limits that are set."""

    @property
    def seconds(self) -> float:
        """The longest of the durations; 0.0 if no limit makes the job wait."""
        return max(self.by_limit.values(), default=0.0)

    @property
    def slowest(self) -> QuotaKind | None:
        """The limit of the longest duration; None if no limit makes the job wait."""
        if not self.seconds:
            return None
        return max(self.by_limit, key=self.by_limit.__getitem__)


def quota_time(limits: QuotaLimits, texts: float, calls: float, tokens: float) -> QuotaTime:
    """Return how long so many texts, calls and tokens take under an unused quota.

    The allowance of a window is used as soon as it is there, so the last window takes no time, and
    neither does the last day. A day's quota resets at midnight, so the days are an upper bound.
    """
    requests = calls if limits.rpm_counts is RpmCounts.CALLS else texts
    demand = {
        QuotaKind.RPM: (limits.rpm, requests),
        QuotaKind.TPM: (limits.tpm, tokens),
        QuotaKind.RPD: (limits.rpd, requests),
    }
    return QuotaTime(
        {
            kind: _seconds(kind, limits.shared(limit), amount, limits.pace)
            for kind, (limit, amount) in demand.items()
            if limit is not None
        }
    )


def _seconds(kind: QuotaKind, limit: int, amount: float, pace: Pace) -> float:
    if kind is not QuotaKind.RPD and pace is Pace.SMOOTH:
        return WINDOW_S * amount / limit
    windows = max(0, math.ceil(amount / limit) - 1)
    return windows * (DAY_S if kind is QuotaKind.RPD else WINDOW_S + MARGIN_S)
