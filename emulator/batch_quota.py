"""The limits of batch jobs on the Developer API: jobs at once, and enqueued tokens."""

from __future__ import annotations

from bulkembed.emulator.api_errors import ApiError
from bulkembed.emulator.batch_jobs import Job, JobStore
from bulkembed.emulator.settings import EmulatorSettings


def check_tier(settings: EmulatorSettings) -> None:
    """Raise a 429 if the project has no batch jobs at all."""
    if settings.free_tier or settings.no_access:
        raise _quota_error(settings, 0)


def check_quota(settings: EmulatorSettings, jobs: JobStore, job: Job) -> None:
    """Raise the 429 of the limit that a new job would exceed."""
    batch = settings.batch
    if len(jobs.open_jobs(())) >= batch.jobs:
        raise _quota_error(settings, None)
    limit = batch.enqueued_tokens
    if limit and jobs.enqueued_tokens() + job.tokens > limit:
        raise _quota_error(settings, limit)


def _quota_error(settings: EmulatorSettings, limit: int | None) -> ApiError:
    """Return the 429; `limit` is that of enqueued tokens, None: there are too many jobs."""
    if not settings.batch.quota_details:
        return ApiError(429, "Resource has been exhausted (e.g. check quota).")
    tier = "FreeTier" if settings.free_tier else "PaidTier"
    metric, quota, value = "batch_concurrent_jobs", "BatchConcurrentJobs", settings.batch.jobs
    if limit is not None:
        metric, quota, value = "batch_enqueued_tokens", "BatchEnqueuedTokens", limit
    violation = {
        "quotaMetric": f"generativelanguage.googleapis.com/{metric}",
        "quotaId": f"{quota}PerProject-{tier}",
        "quotaValue": str(value),
    }
    return ApiError(
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}],
    )
