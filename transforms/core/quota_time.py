"""How long the quota makes a job last, before it has begun."""

from __future__ import annotations

import dataclasses
import math

from bulkembed.schemas.quota import Pace, QuotaKind, QuotaLimits, RpmCounts
from bulkembed.transforms.core.quota import MARGIN_S
from bulkembed.transforms.core.quota_counters import WINDOW_S

DAY_S = 86_400.0


@dataclasses.dataclass(frozen=True, slots=True)
class QuotaTime:
    """Seconds that each limit alone makes a job last at least; only limits that there are."""

    by_limit: dict[QuotaKind, float]

    @property
    def seconds(self) -> float:
        """By the limit that takes longest; 0.0: no limit makes the job wait."""
        return max(self.by_limit.values(), default=0.0)

    @property
    def binds(self) -> QuotaKind | None:
        """The limit that takes longest; None where none makes the job wait."""
        if not self.seconds:
            return None
        return max(self.by_limit, key=self.by_limit.__getitem__)


def quota_time(limits: QuotaLimits, texts: float, calls: float, tokens: float) -> QuotaTime:
    """The time that texts in so many calls, with so many tokens, take at a quota that is unused.

    A window's allowance is used up as soon as it is there, so the last one costs no time; nor does
    the last day.  A day's quota is back at midnight: so many days are the most, not the least.
    """
    requests = calls if limits.rpm_counts is RpmCounts.CALLS else texts
    asked = {
        QuotaKind.RPM: (limits.rpm, requests),
        QuotaKind.TPM: (limits.tpm, tokens),
        QuotaKind.RPD: (limits.rpd, requests),
    }
    return QuotaTime(
        {
            kind: _seconds(kind, limits.shared(limit), amount, limits.pace)
            for kind, (limit, amount) in asked.items()
            if limit is not None
        }
    )


def _seconds(kind: QuotaKind, limit: int, amount: float, pace: Pace) -> float:
    if kind is not QuotaKind.RPD and pace is Pace.SMOOTH:
        return WINDOW_S * amount / limit
    windows = max(0, math.ceil(amount / limit) - 1)
    return windows * (DAY_S if kind is QuotaKind.RPD else WINDOW_S + MARGIN_S)
