"""Counts since the server was started or reset."""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from bulkembed.emulator.media_rules import Modality


@dataclasses.dataclass
class Stats:
    """Counts of calls that embed. It needs about 60 bytes per distinct text and 100 per second.

    A text is counted when it is answered with a vector, at the time when the quota counted it.
    """

    calls: int = 0
    texts: int = 0
    tokens: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    first_counted: float | None = None
    last_counted: float | None = None
    answers: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    by_modality: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    _seen: set[int] = dataclasses.field(default_factory=set)
    _per_second: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock, repr=False)

    def begin(self) -> None:
        """Count a call that arrives."""
        self.calls += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def end(self, answer: str) -> None:
        """Count the end of a call: its HTTP status, or `reset` or `hang`."""
        self.in_flight -= 1
        self.answers[answer] += 1

    def paid(
        self,
        keys: Iterable[int],
        texts: int,
        tokens: int,
        at: float,
        by_modality: Mapping[Modality, int] | None = None,
    ) -> None:
        """Count answered texts and media; `keys` are their hashes, see `paid_keys`.

        `by_modality` has the tokens of each modality; None: all are of texts.
        """
        with self._lock:  # Batch jobs bill in another thread than calls.
            self._seen.update(keys)
            self.texts += texts
            self.tokens += tokens
            self.by_modality.update({Modality.TEXT: tokens} if by_modality is None else by_modality)
            self.first_counted = at if self.first_counted is None else min(self.first_counted, at)
            self.last_counted = at if self.last_counted is None else max(self.last_counted, at)
            self._per_second[int(at)] += texts

    def as_json(self) -> dict[str, Any]:
        """Return the content of `/stats`."""
        with self._lock:
            return self._as_json()

    def _as_json(self) -> dict[str, Any]:
        first = int(self.first_counted or 0)
        return {
            "calls": self.calls,
            "texts": self.texts,
            "distinct_texts": len(self._seen),
            "texts_paid_twice": self.texts - len(self._seen),
            "tokens": self.tokens,
            "tokens_by_modality": {
                str(one): self.by_modality[one] for one in sorted(self.by_modality)
            },
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
