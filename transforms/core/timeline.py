"""What a process did over time, in a few hundred counts, for runs of seconds or of weeks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

from bulkembed.schemas.serialization import from_plain, to_plain

WIDTHS_S = (1, 2, 4, 12, 60, 360, 1_440, 8_640, 86_400)
"""The possible lengths of a moment. Each divides the next; those up to 60 divide 60."""
MAX_MOMENTS = 360
STEPS = 8
"""Steps per doubling of the latency: each is about 9 % wide."""

_RATE_LIMITED = "rate_limited"
_RATE_LIMITED_KEY = "refused"
"""The key of that count in files; earlier versions call it so."""


@dataclasses.dataclass(slots=True)
class Moment:
    """The results of the calls that were sent within some seconds."""

    calls: int = 0
    """Answered with vectors."""
    texts: int = 0
    """Texts of these calls."""
    tokens: int = 0
    retried: int = 0
    """Calls that were sent again."""
    rate_limited: int = 0
    """429s."""
    failed: int = 0
    """Calls that ended with another error."""
    latencies: dict[int, int] = dataclasses.field(default_factory=dict)
    """Answered calls by their `latency_step`."""

    def add_answer(self, texts: int, tokens: int, seconds: float) -> None:
        """Count a call that returned vectors."""
        self.calls += 1
        self.texts += texts
        self.tokens += tokens
        step = latency_step(seconds)
        self.latencies[step] = self.latencies.get(step, 0) + 1

    def add_error(self, *, rate_limited: bool) -> None:
        """Count a call that failed."""
        self.rate_limited += rate_limited
        self.failed += not rate_limited

    def add(self, other: Moment) -> None:
        """Add the counts of another moment."""
        for name in ("calls", "texts", "tokens", "retried", "rate_limited", "failed"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for step, calls in other.latencies.items():
            self.latencies[step] = self.latencies.get(step, 0) + calls


class Timeline:
    """Moments of equal length; if there are too many, they are merged into longer ones."""

    def __init__(self, width_s: int = WIDTHS_S[0]) -> None:
        self.width_s = width_s
        self._moments: dict[int, Moment] = {}

    def at(self, now: float) -> Moment:
        """Return the moment that contains `now`, in epoch seconds."""
        key = int(now // self.width_s)
        if key not in self._moments:
            self._moments[key] = Moment()
            while len(self._moments) > MAX_MOMENTS and self.width_s < WIDTHS_S[-1]:
                self._widen(WIDTHS_S[WIDTHS_S.index(self.width_s) + 1])
        return self._moments[int(now // self.width_s)]

    def moments(self) -> list[tuple[int, Moment]]:
        """Return the start of each moment, in epoch seconds, and the moment; in order of time.

        Another thread may still count: copying a dict is atomic for it.
        """
        moments = self._moments.copy()
        return [(key * self.width_s, moments[key]) for key in sorted(moments)]

    def to_json(self) -> dict[str, Any]:
        """Return plain values; at most about 60 kB."""
        moments = [{"at": at, **_moment_to_json(moment)} for at, moment in self.moments()]
        return {"width_s": self.width_s, "moments": moments}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Timeline:
        """Return the timeline of `to_json`.

        Raises:
            KeyError, TypeError, ValueError: the content is not a timeline.
        """
        timeline = cls(WIDTHS_S[WIDTHS_S.index(content["width_s"])])
        for facts in content["moments"]:
            renamed = {_RATE_LIMITED: facts.get(_RATE_LIMITED_KEY, 0)}
            timeline.at(facts["at"]).add(from_plain({**facts, **renamed}, Moment))
        return timeline

    def _widen(self, width_s: int) -> None:
        old, times = self._moments, width_s // self.width_s
        self.width_s, self._moments = width_s, {}
        for key, moment in old.items():
            self._moments.setdefault(key // times, Moment()).add(moment)


def _moment_to_json(moment: Moment) -> dict[str, Any]:
    # Another thread may still count: the copy is atomic.
    facts = to_plain(dataclasses.replace(moment, latencies=moment.latencies.copy()))
    facts[_RATE_LIMITED_KEY] = facts.pop(_RATE_LIMITED)
    return dict(facts)


def merge_timelines(timelines: Iterable[Timeline]) -> Timeline:
    """Return one timeline for several processes."""
    timelines = list(timelines)
    merged = Timeline(max((one.width_s for one in timelines), default=WIDTHS_S[0]))
    for timeline in timelines:
        for at, moment in timeline.moments():
            merged.at(at).add(moment)
    return merged


def latency_step(seconds: float) -> int:
    """Return the step of a latency; from 1 ms on, STEPS steps double it."""
    return max(0, round(STEPS * math.log2(max(seconds, 1e-3) * 1000)))


def percentile_s(latencies: Mapping[int, int], fraction: float) -> float:
    """Return the seconds within which a fraction of the calls was answered; at least one call."""
    wanted, seen = fraction * sum(latencies.values()), 0
    steps = sorted(latencies)
    for step in steps:
        seen += latencies[step]
        if seen >= wanted:
            return float(2 ** (step / STEPS) / 1000)
    return float(2 ** (steps[-1] / STEPS) / 1000)
