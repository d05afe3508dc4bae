"""The part of the quota that is each worker's."""

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
