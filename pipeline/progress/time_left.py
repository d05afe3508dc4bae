"""How long a run still takes: by its speed, and by the quota, which returns as the window moves.

The speed is that of the time in which no request waited for quota. Otherwise a run that has used
its window would seem slower every second, although it resumes at full speed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from bulkembed.schemas.live import QuotaUse
from bulkembed.schemas.quota import QuotaKind
from bulkembed.transforms.core.quota_state import MARGIN_S, WINDOW_S

SPAN_S = WINDOW_S + MARGIN_S
"""How long an answered request counts against the quota."""
SHORTEST_S = 0.2
"""A shorter time shows no speed."""

Returns = list[tuple[float, int]]
"""In how many seconds how much of a limit is available again, the earliest first."""


@dataclasses.dataclass(frozen=True, slots=True)
class WorkAmount:
    """WorkAmount that is done or remains."""

    rows: int = 0
    requests: int = 0
    """As the quota counts them: texts, or calls."""
    tokens: int = 0

    def __sub__(self, other: WorkAmount) -> WorkAmount:
        """Return the work that was added; counts that became lower added nothing."""
        return WorkAmount(
            max(0, self.rows - other.rows),
            max(0, self.requests - other.requests),
            max(0, self.tokens - other.tokens),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class ActiveSpeed:
    """WorkAmount per second while no request waits for quota; inf if there was no such time."""

    rows: float
    requests: float
    tokens: float

    @classmethod
    def of(cls, done: WorkAmount, active_s: float) -> ActiveSpeed:
        """Return the speed at which some work was done in a time."""
        if active_s < SHORTEST_S:
            return cls(math.inf, math.inf, math.inf)
        return cls(done.rows / active_s, done.requests / active_s, done.tokens / active_s)


def time_left_s(left: WorkAmount, speed: ActiveSpeed, quota: QuotaUse | None) -> float:
    """Return the seconds until all remaining work is done; 0.0 if nothing shows the speed."""
    times = [_at_speed(left.rows, speed.rows), _at_speed(left.requests, speed.requests)]
    if quota is not None:
        times += _by_quota(left, speed, quota)
    return max(times)


def _at_speed(amount: int, per_s: float) -> float:
    return amount / per_s if amount and per_s > 0 else 0.0


def _by_quota(left: WorkAmount, speed: ActiveSpeed, quota: QuotaUse) -> Iterator[float]:
    for kind, amount, per_s, place in (
        (QuotaKind.RPM, left.requests, speed.requests, 1),
        (QuotaKind.TPM, left.tokens, speed.tokens, 2),
    ):
        limit = quota.limits[kind]
        if limit:
            leaving = [(float(entry[0]), int(entry[place])) for entry in quota.leaving]
            yield window_s(amount, limit, quota.used[kind], leaving, per_s)
            if quota.is_smooth:
                yield amount / limit * WINDOW_S


def window_s(amount: int, limit: int, used: int, leaving: Returns, per_s: float) -> float:
    """Return the seconds until an amount is sent under a limit per minute.

    What is free now is sent now, and what leaves the window is sent when it leaves. After one span
    of the window all of it repeats.

    Args:
        amount: what is still to be sent.
        limit: the maximum in the window.
        used: what is in the window now.
        leaving: in how many seconds it leaves the window.
        per_s: how much is sent per second when the quota allows it.
    """
    returns = _returns(limit, used, leaving)
    found = 0.0
    # In between, the time grows by the same amount from one span to the next.
    for span in {0, max(0, amount - 1) // limit}:
        before = span * limit
        for at_s, part in returns:
            if before >= amount:
                break
            found = max(found, span * SPAN_S + at_s + _at_speed(amount - before, per_s))
            before += part
    return found


def _returns(limit: int, used: int, leaving: Returns) -> Returns:
    """Return when the whole limit is available, part by part."""
    excess = used - limit  # A limit that was lowered may be exceeded.
    found = [(0.0, max(0, -excess))]
    for at_s, part in leaving:
        kept = min(part, max(0, excess))
        excess -= kept
        found.append((at_s, part - kept))
    missing = limit - sum(part for _, part in found)
    return [(at_s, part) for at_s, part in [*found, (SPAN_S, missing)] if part > 0]
