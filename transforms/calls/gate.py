"""Who may send next: first come, first served, under the quota and the calls in the air."""

from __future__ import annotations

import asyncio
import bisect
import dataclasses
import itertools
import random as random_module
import time
from collections.abc import Callable, Sequence

from bulkembed.schemas.errors import BadAnswer, CallError, Intercepted, QuotaExceeded, Unavailable
from bulkembed.schemas.live import Live, Waiting
from bulkembed.schemas.quota import QuotaKind, RpmCounts
from bulkembed.transforms.calls.shared_quota import Quota
from bulkembed.transforms.calls.stopping import StopFlag, Stopping
from bulkembed.transforms.core.concurrency import ConcurrencyLevel
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.health import ServiceHealth
from bulkembed.transforms.core.packing import CallLimits, within
from bulkembed.transforms.core.quota_mirror import POLL_S, QuotaMirror, RateLimitEffect
from bulkembed.transforms.core.verdict import QuotaWords


class TooLarge(Exception):
    """The call no longer fits what a call may hold: pack it anew."""


class DaySpent(Exception):
    """The day's quota is gone until `resets_at` (epoch seconds)."""

    def __init__(self, resets_at: float) -> None:
        super().__init__(resets_at)
        self.resets_at = resets_at


@dataclasses.dataclass(frozen=True, slots=True)
class Slot:
    """A call in the air: its ticket in the mirror, and when it was let go."""

    ticket: int
    sent_at: float


@dataclasses.dataclass(slots=True, eq=False)
class Waiter:
    """A call in the queue."""

    items: Sequence[Content]
    tokens: int
    granted: asyncio.Future[Slot]
    place: tuple[int, int]


MAX_NAP_S = 5.0
"""How long the queue sleeps at most before it looks again: other processes give quota back."""
_MAYBE_COUNTED = (Unavailable, Intercepted, BadAnswer)
"""Errors after which the call may still have counted against the quota."""
REPACK_S = 0.01
"""How long the queue stands still for a call that is packed anew: it keeps its place."""


class Gate:
    """The queue in front of the service.  Lives on one event loop.

    A permit is held only while a call is in the air: neither waiting for quota nor backing off
    holds one.  The first call goes alone, and the others wait for its answer: it is the probe.

    Args:
        quota: the mirror of the service's quotas.
        level: how many calls may be in the air.
        limits: the most that one call may hold, whatever the quota.
        stop: ends all waiting.
        clock: epoch seconds; the quota's state is shared between processes.
    """

    def __init__(
        self,
        quota: Quota,
        level: ConcurrencyLevel,
        limits: CallLimits,
        stop: StopFlag,
        *,
        clock: Callable[[], float] = time.time,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self._quota = quota
        self._level = level
        self._limits = limits
        self._stop = stop
        self._clock = clock
        self._random = random
        self._queue: list[Waiter] = []
        self._numbers = itertools.count()
        self._places: dict[int, tuple[int, int]] = {}
        self._in_air = 0
        self._proven = False
        self._health = ServiceHealth()
        self._most_passed = 0
        self._timer: asyncio.TimerHandle | None = None
        self._throttled_since: float | None = None
        self._throttled_s = 0.0
        self.most_in_air = 0

    @property
    def throttled_s(self) -> float:
        """How long the head of the queue has waited for quota, up to now."""
        since, now = self._throttled_since, self._clock()
        return self._throttled_s + (max(0.0, now - since) if since is not None else 0.0)

    @property
    def proven(self) -> bool:
        """Whether the service has answered a call of this process."""
        return self._proven

    @property
    def most_passed(self) -> int:
        """The most texts in a call that the service has answered."""
        return self._most_passed

    @property
    def hopeless(self) -> bool:
        """Whether no useful answer has come for so long that the run must end."""
        return self._health.hopeless

    def look(self) -> Live:
        """Calls in the air, the quota's use, and why the next call does not go; from any thread."""
        now = self._clock()
        head = next(iter(self._queue), None)
        with self._quota.transaction() as mirror:
            waits = mirror.wait_reason(now, len(head.items), head.tokens) if head else None
            use = mirror.use(now)
        if head is not None and not self._proven:
            waits = Waiting.PROBE
        elif head is not None and (self._health.one_at_a_time or self._health.wait_s(now) > 0):
            waits = Waiting.OUTAGE
        return Live(
            in_air=self._in_air,
            waiting=waits or (Waiting.SLOTS if head is not None else None),
            quota=use,
        )

    def call_limits(self) -> CallLimits:
        """The most that one call may hold now."""
        now = self._clock()
        with self._quota.transaction() as mirror:
            return mirror.call_limits(now, self._limits)

    def learn_cap(self, texts: int) -> None:
        """Never again packs more than `texts` into one call: the service said so."""
        self._limits = dataclasses.replace(
            self._limits, texts=max(1, min(texts, self._limits.texts))
        )

    async def enter(self, items: Sequence[Content], tokens: int, *, again: bool = False) -> Slot:
        """Waits until the call may go, and counts it as sent.

        Args:
            items: the texts of the call.
            tokens: their estimated tokens.
            again: the call was in the air before; it goes before those that were not.

        Raises:
            TooLarge: the limits were lowered, and the call must be packed anew.
            DaySpent: nothing is left of the day's quota.
            Stopping: the run is to end.
        """
        if self._stop.is_set():
            raise Stopping("the run is to end")
        granted = asyncio.get_running_loop().create_future()
        waiter = Waiter(items, tokens, granted, self._place(items, again))
        bisect.insort(self._queue, waiter, key=lambda one: one.place)
        self._pump()
        try:
            slot = await waiter.granted
        except asyncio.CancelledError:
            self._forget(waiter)
            raise
        if self._stop.is_set():
            self.give_back(slot)  # The call whose answer made room could not be kept.
            raise Stopping("the run is to end")
        return slot

    def _place(self, items: Sequence[Content], again: bool) -> tuple[int, int]:
        """The place in the queue; texts of a call that was too large keep theirs, and its order."""
        kept = [self._places.pop(id(item), None) for item in items] if self._places else [None]
        return kept[0] or (0 if again else 1, next(self._numbers))

    def succeed(self, slot: Slot, tokens: int | None, texts: int) -> None:
        """The call was answered with vectors for its `texts`.

        `tokens` is the service's count, if it gives one.
        """
        now = self._clock()
        with self._quota.transaction() as mirror:
            mirror.settle(slot.ticket, now, tokens)
        self._level.succeeded(slot.sent_at, now, self._in_air)
        self._proven = True
        self._most_passed = max(self._most_passed, texts)
        self._health.succeeded(slot.sent_at)
        self._left()

    def fail(self, slot: Slot, error: CallError) -> RateLimitEffect | None:
        """The call was answered with an error; gives what a 429 changed."""
        now = self._clock()
        refusal = None
        with self._quota.transaction() as mirror:
            if isinstance(error, QuotaExceeded):
                refusal = self._refused(mirror, slot, now, error)
            else:
                mirror.fail(slot.ticket, now, charged=isinstance(error, _MAYBE_COUNTED))
        if isinstance(error, Unavailable):
            self._level.failed(slot.sent_at, now)
        self._health.failed(now, slot.sent_at, error, self._random())
        self._left()
        return refusal

    def abandon(self, slot: Slot) -> None:
        """The call was abandoned in flight: it may have been counted."""
        with self._quota.transaction() as mirror:
            mirror.fail(slot.ticket, self._clock(), charged=True)
        self._left()

    def give_back(self, slot: Slot) -> None:
        """The call was not sent: it counts nowhere."""
        with self._quota.transaction() as mirror:
            mirror.fail(slot.ticket, self._clock(), charged=False)
        self._left()

    def close(self) -> None:
        """Ends all waiting: nothing more is sent."""
        while self._queue:
            waiter = self._queue.pop(0)
            if not waiter.granted.done():
                waiter.granted.set_exception(Stopping("the run is to end"))

    def _refused(
        self, mirror: QuotaMirror, slot: Slot, now: float, error: QuotaExceeded
    ) -> RateLimitEffect:
        words = error.facts.get("quota")
        if not isinstance(words, QuotaWords):
            words = QuotaWords()
        kind = QuotaKind.of_id(words.quota_id)
        refusal = mirror.rate_limited(
            slot.ticket,
            now,
            delay_s=words.delay_s,
            jitter=self._random(),
            kind=kind,
            quota_value=words.quota_value,
        )
        if kind is QuotaKind.RPD:
            error.facts["resets_at"] = mirror.day_resets_at(now)
        return refusal

    def _left(self) -> None:
        self._in_air -= 1
        self._pump()

    def _pump(self) -> None:
        """Lets go what may go, and sets the alarm for the next look."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._queue:
            if self._stop.is_set():
                return self.close()
            now = self._clock()
            if self._in_air >= self._permits(now):
                return self._note_throttle(now, waiting=False)
            pause = self._health.wait_s(now)
            wait = pause or self._let_go(self._queue[0], now)
            if wait > 0:
                self._note_throttle(now, waiting=pause == 0)
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(min(wait, MAX_NAP_S), self._pump)
                return None
        return self._note_throttle(self._clock(), waiting=False)

    def _permits(self, now: float) -> int:
        """How many calls may be in the air now."""
        if not self._proven or self._health.one_at_a_time:
            return 1
        with self._quota.transaction() as mirror:
            rpm = mirror.limit(now, QuotaKind.RPM)
            texts = 1 if mirror.limits.rpm_counts is RpmCounts.CALLS else mirror.max_texts(now)
        return self._level.level(None if rpm is None else rpm / 60 / max(1, texts))

    def _let_go(self, waiter: Waiter, now: float) -> float:
        """Sends the head of the queue, or gives the seconds that it has to wait."""
        answer: Slot | Exception
        if waiter.granted.done():
            self._queue.pop(0)
            return 0.0
        with self._quota.transaction() as mirror:
            if mirror.day_spent(now):
                if mirror.in_flight:
                    return POLL_S  # What is in the air gives its part of the day back if it fails.
                answer = DaySpent(mirror.day_resets_at(now))
            elif not within(waiter.items, mirror.call_limits(now, self._limits)):
                answer = TooLarge()
            else:
                texts = len(waiter.items)
                wait = mirror.wait_s(now, texts, waiter.tokens)
                if wait > 0:
                    return wait
                answer = Slot(mirror.take(now, texts, waiter.tokens), now)
        self._queue.pop(0)
        if isinstance(answer, TooLarge):
            self._places.update((id(item), waiter.place) for item in waiter.items)
            waiter.granted.set_exception(answer)
            return REPACK_S
        if isinstance(answer, Slot):
            waiter.granted.set_result(answer)
            self._in_air += 1
            self.most_in_air = max(self.most_in_air, self._in_air)
        else:
            waiter.granted.set_exception(answer)
        return 0.0

    def _forget(self, waiter: Waiter) -> None:
        if waiter.granted.done() and not waiter.granted.cancelled():
            if waiter.granted.exception() is None:
                self.give_back(waiter.granted.result())
        elif waiter in self._queue:
            self._queue.remove(waiter)

    def _note_throttle(self, now: float, *, waiting: bool) -> None:
        """Counts the time in which the head of the queue waits for quota and for nothing else."""
        if self._throttled_since is not None:
            self._throttled_s += max(0.0, now - self._throttled_since)
        self._throttled_since = now if waiting else None
