"""What a process did over time: a few hundred counts, whether it runs for seconds or for weeks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

WIDTHS_S = (1, 2, 4, 12, 60, 360, 1_440, 8_640, 86_400)
"""How long a moment may be.  Each divides the next, and up to there a minute."""
MOST_MOMENTS = 360
STEPS = 8
"""Steps in which latencies are counted while they double: each is some 9 % wide."""


@dataclasses.dataclass(slots=True)
class Moment:
    """What happened to the calls that were sent within some seconds."""

    calls: int = 0
    """Answered with vectors."""
    texts: int = 0
    """Of these calls."""
    tokens: int = 0
    retried: int = 0
    """Sent, though their texts were in the air before."""
    refused: int = 0
    """429s."""
    failed: int = 0
    """Ended by another error."""
    latencies: dict[int, int] = dataclasses.field(default_factory=dict)
    """Answered calls by `latency_step`."""

    def answered(self, texts: int, tokens: int, seconds: float) -> None:
        """Counts a call that brought vectors."""
        self.calls += 1
        self.texts += texts
        self.tokens += tokens
        step = latency_step(seconds)
        self.latencies[step] = self.latencies.get(step, 0) + 1

    def gave_none(self, *, refused: bool) -> None:
        """Counts a call that brought an error."""
        self.refused += refused
        self.failed += not refused

    def add(self, other: Moment) -> None:
        """Takes in what happened in another moment."""
        for name in ("calls", "texts", "tokens", "retried", "refused", "failed"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for step, calls in other.latencies.items():
            self.latencies[step] = self.latencies.get(step, 0) + calls


class Timeline:
    """Moments of equal length; where there are too many of them, they are made longer."""

    def __init__(self, width_s: int = WIDTHS_S[0]) -> None:
        self.width_s = width_s
        self._moments: dict[int, Moment] = {}

    def at(self, now: float) -> Moment:
        """The moment that a time belongs to; `now` is in epoch seconds."""
        key = int(now // self.width_s)
        if key not in self._moments:
            self._moments[key] = Moment()
            while len(self._moments) > MOST_MOMENTS and self.width_s < WIDTHS_S[-1]:
                self._widen(WIDTHS_S[WIDTHS_S.index(self.width_s) + 1])
        return self._moments[int(now // self.width_s)]

    def moments(self) -> list[tuple[int, Moment]]:
        """When each moment began, in epoch seconds, and what happened; in order of time.

        Another thread may go on counting: copying a dict is one step to it.
        """
        moments = self._moments.copy()
        return [(key * self.width_s, moments[key]) for key in sorted(moments)]

    def to_json(self) -> dict[str, Any]:
        """Plain values; at most some 60 kB."""
        moments = [{"at": at, **_plain(moment)} for at, moment in self.moments()]
        return {"width_s": self.width_s, "moments": moments}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Timeline:
        """The timeline of `to_json`.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        timeline = cls(WIDTHS_S[WIDTHS_S.index(content["width_s"])])
        for facts in content["moments"]:
            fields = dict(facts)
            at = fields.pop("at")
            steps = {int(step): int(calls) for step, calls in fields.pop("latencies").items()}
            timeline.at(at).add(Moment(**fields, latencies=steps))
        return timeline

    def _widen(self, width_s: int) -> None:
        old, times = self._moments, width_s // self.width_s
        self.width_s, self._moments = width_s, {}
        for key, moment in old.items():
            self._moments.setdefault(key // times, Moment()).add(moment)


def merge(timelines: Iterable[Timeline]) -> Timeline:
    """The timeline of several processes together."""
    timelines = list(timelines)
    merged = Timeline(max((one.width_s for one in timelines), default=WIDTHS_S[0]))
    for timeline in timelines:
        for at, moment in timeline.moments():
            merged.at(at).add(moment)
    return merged


def latency_step(seconds: float) -> int:
    """The step that a latency is counted under; from 1 ms on, STEPS of them double it."""
    return max(0, round(STEPS * math.log2(max(seconds, 1e-3) * 1000)))


def percentile_s(latencies: Mapping[int, int], part: float) -> float:
    """The seconds within which a part of the calls, such as 0.95, was answered; not of none."""
    wanted, seen = part * sum(latencies.values()), 0
    steps = sorted(latencies)
    for step in steps:
        seen += latencies[step]
        if seen >= wanted:
            return float(2 ** (step / STEPS) / 1000)
    return float(2 ** (steps[-1] / STEPS) / 1000)


def _plain(moment: Moment) -> dict[str, Any]:
    steps = sorted(moment.latencies.copy().items())
    facts = {f.name: getattr(moment, f.name) for f in dataclasses.fields(Moment)}
    return {**facts, "latencies": {str(step): calls for step, calls in steps}}
