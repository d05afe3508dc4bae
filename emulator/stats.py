"""What the server has counted since it started or was reset."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable
from typing import Any


@dataclasses.dataclass
class Stats:
    """Counts of embed calls.  Memory: some 60 bytes a distinct text, 100 a second of the timeline.

    A text is counted when it was answered with a vector; its time is when the quota counted it.
    """

    calls: int = 0
    texts: int = 0
    tokens: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    first_counted: float | None = None
    last_counted: float | None = None
    answers: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    _seen: set[int] = dataclasses.field(default_factory=set)
    _per_second: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)

    def begin(self) -> None:
        """A call has come in."""
        self.calls += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def end(self, answer: str) -> None:
        """A call is over: its HTTP status, or `reset`, `hang`."""
        self.in_flight -= 1
        self.answers[answer] += 1

    def paid(self, keys: Iterable[int], texts: int, tokens: int, at: float) -> None:
        """Texts answered; `keys` are 8-byte hashes, one a text, of all that makes its vector."""
        self._seen.update(keys)
        self.texts += texts
        self.tokens += tokens
        self.first_counted = at if self.first_counted is None else min(self.first_counted, at)
        self.last_counted = at if self.last_counted is None else max(self.last_counted, at)
        self._per_second[int(at)] += texts

    def as_json(self) -> dict[str, Any]:
        """What `/stats` answers."""
        first = int(self.first_counted or 0)
        return {
            "calls": self.calls,
            "texts": self.texts,
            "distinct_texts": len(self._seen),
            "texts_paid_twice": self.texts - len(self._seen),
            "tokens": self.tokens,
            "answers": dict(sorted(self.answers.items())),
            "answers_429": self.answers["429"],
            "in_flight": self.in_flight,
            "most_in_flight": self.most_in_flight,
            "first_counted_s": self.first_counted,
            "last_counted_s": self.last_counted,
            "timeline": [
                [second - first, texts] for second, texts in sorted(self._per_second.items())
            ],
        }
