"""Simulated time for the quota mirror: an exact service, 200 ms per call, 16 calls in flight."""

from __future__ import annotations

import collections
import dataclasses
import heapq
import itertools
import random
from collections.abc import Callable, Sequence

from bulkembed.schemas.quota import QuotaKind
from bulkembed.transforms.core.concurrency import ConcurrencyLevel
from bulkembed.transforms.core.quota_mirror import QuotaMirror
from bulkembed.transforms.core.quota_state import next_pacific_midnight

START = 1_780_000_000.0


LATENCY_S = 0.2


class Service:
    """Counts a call on arrival, in exact sliding windows; rejects what does not fit."""

    def __init__(self, rpm: float = 1e18, tpm: float = 1e18, rpd: float = 1e18) -> None:
        self.limits = {QuotaKind.RPM: rpm, QuotaKind.TPM: tpm}
        self.rpd = rpd
        self.counted: list[tuple[float, int, int]] = []
        self.window: collections.deque[tuple[float, int, int]] = collections.deque()
        self.used = dict.fromkeys(self.limits, 0)
        self.day_ends = self.day_used = 0.0

    def ask(self, at: float, texts: int, tokens: int) -> QuotaKind | None:
        while self.window and self.window[0][0] <= at - 60:
            self._add(self.window.popleft(), -1)
        if at >= self.day_ends:
            self.day_ends, self.day_used = next_pacific_midnight(at), 0
        size = {QuotaKind.RPM: texts, QuotaKind.TPM: tokens}
        kind = next((k for k in size if self.used[k] + size[k] > self.limits[k]), None)
        if self.day_used + texts > self.rpd:
            kind = QuotaKind.RPD
        if kind is not None:
            return kind
        self.take(at, texts, tokens)
        return None

    def take(self, at: float, texts: int, tokens: int) -> None:
        self.day_used += texts
        self.window.append((at, texts, tokens))
        self.counted.append((at, texts, tokens))
        self._add(self.window[-1], 1)

    def _add(self, entry: tuple[float, int, int], sign: int) -> None:
        self.used[QuotaKind.RPM] += sign * entry[1]
        self.used[QuotaKind.TPM] += sign * entry[2]

    def delay_s(self, at: float) -> float:
        """Return the delay of RetryInfo: when something leaves the window."""
        return max(0.0, self.window[0][0] + 60 - at) if self.window else 0.0


@dataclasses.dataclass
class World:
    """One clock, one service, any number of jobs and other users."""

    service: Service
    details: bool = True
    now: float = START
    seed: int = 1

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, when: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), do))

    def run(self, until: float = float("inf")) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, do = heapq.heappop(self._events)
            do()
        if until < float("inf"):
            self.now = until


class Job:
    """Sends texts, given by their true and their estimated tokens, as a caller would."""

    def __init__(
        self, world: World, mirror: QuotaMirror, texts: Sequence[tuple[int, int]], most: int = 16
    ) -> None:
        self.world, self.mirror = world, mirror
        self.queue = collections.deque(texts)
        self.level = ConcurrencyLevel(most)
        self.in_flight = self.answered = self.calls = self.rate_limited = 0
        self.rate_limits: list[tuple[float, bool]] = []
        self.day_spent = False
        self.alarm = 0.0

    def pump(self) -> None:
        world = self.world
        while self.queue and not self.day_spent and self.in_flight < self.level.level():
            self.day_spent = self.mirror.day_spent(world.now)
            call = self._pack()
            estimate = sum(text[1] for text in call)
            wait = self.mirror.wait_s(world.now, len(call), estimate)
            if wait or not call:
                self.queue.extendleft(reversed(call))
                self._set_alarm(world.now + min(wait, 5.0))
                return
            self._send(call, self.mirror.take(world.now, len(call), estimate))

    def _set_alarm(self, when: float) -> None:
        """Set the alarm; only the newest one counts."""
        self.alarm = when
        self.world.at(when, lambda: self.pump() if self.alarm == when else None)

    def _pack(self) -> list[tuple[int, int]]:
        texts = self.mirror.max_texts(self.world.now)
        tokens = self.mirror.max_tokens(self.world.now) or 10**12
        call: list[tuple[int, int]] = []
        while self.queue and len(call) < texts:
            tokens -= self.queue[0][1]
            if call and tokens < 0:
                break
            call.append(self.queue.popleft())
        return call

    def _send(self, call: list[tuple[int, int]], ticket: int) -> None:
        world, sent_at = self.world, self.world.now
        self.in_flight += 1
        self.calls += 1
        actual = sum(text[0] for text in call)
        travel = world.random.uniform(0.1, 0.9) * LATENCY_S

        def arrive() -> None:
            kind = world.service.ask(world.now, len(call), actual)
            delay = world.service.delay_s(world.now)
            world.at(sent_at + LATENCY_S, lambda: answer(kind, delay))

        def answer(kind: QuotaKind | None, delay: float) -> None:
            self.in_flight -= 1
            if kind is None:
                self.answered += len(call)
                self.mirror.settle(ticket, world.now, actual)
                self.level.succeeded(sent_at, world.now, self.in_flight + 1)
            else:
                self._rate_limited(ticket, kind, delay)
                self.queue.extendleft(call)
            self.pump()

        world.at(sent_at + travel, arrive)

    def _rate_limited(self, ticket: int, kind: QuotaKind, delay: float) -> None:
        world = self.world
        self.rate_limited += 1
        value = int(world.service.limits.get(kind, 0)) or None
        effect = self.mirror.rate_limited(
            ticket,
            world.now,
            delay_s=delay if world.details else None,
            jitter=world.random.random(),
            kind=kind if world.details else None,
            quota_value=value if world.details else None,
        )
        self.rate_limits.append((world.now - START, effect.unexplained))


def one_token(count: int) -> list[tuple[int, int]]:
    return [(1, 1)] * count
