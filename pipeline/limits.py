"""Each worker's part of the quota, and of the calls that may be in the air."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

from schemas.job import JobConfig


def share_quota(job: JobConfig, workers: int | None) -> JobConfig:
    """The job with each worker's share of the quota, unless `--quota-share` says it already."""
    limits = job.calls.limits
    if not workers or limits.share != 1:
        return job
    limits = dataclasses.replace(limits, share=Fraction(1, workers))
    return dataclasses.replace(job, calls=dataclasses.replace(job.calls, limits=limits))


def share_calls(job: JobConfig, processes: int) -> JobConfig:
    """The job with each process's part of the calls that may be in the air."""
    calls = dataclasses.replace(
        job.calls, max_in_flight=max(1, job.calls.max_in_flight // processes)
    )
    return dataclasses.replace(job, calls=calls)
