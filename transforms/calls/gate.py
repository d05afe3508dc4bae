"""The queue of calls: first come, first served, under the quota and the calls in flight."""

from __future__ import annotations

import asyncio
import bisect
import dataclasses
import itertools
import math
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

MAX_SLEEP_S = 5.0
"""How long the queue sleeps at most: other processes may free quota in the meantime."""
REPACK_S = 0.01
"""How long the queue waits for a call that is packed again: its parts keep its place."""
_MAYBE_COUNTED = (Unavailable, Intercepted, BadAnswer)
"""Errors after which the service may have counted the call."""


class TooLarge(Exception):
    """The call exceeds what a call may hold now: pack it again."""


class DaySpent(Exception):
    """The day's quota is spent until `resets_at` (epoch seconds)."""

    def __init__(self, resets_at: float) -> None:
        super().__init__(resets_at)
        self.resets_at = resets_at


@dataclasses.dataclass(frozen=True, slots=True)
class Slot:
    """Permission to send a call: its ticket in the mirror, and when it was given."""

    ticket: int
    sent_at: float


Place = tuple[int, int]
"""A place in the queue: 0 for a retry and 1 for a new call, then the order of arrival."""


@dataclasses.dataclass(slots=True, eq=False)
class QueuedCall:
    """A call that waits for its slot."""

    contents: Sequence[Content]
    tokens: int
    slot: asyncio.Future[Slot]
    place: Place


class Gate:
    """The queue in front of the service.  Lives on one event loop.

    A call has a slot only while it is in flight, not while it waits for quota or after a failure.
    The first call of a process is a probe: it is sent alone, and the others wait for its answer.

    Args:
        quota: the mirror of the service's quotas.
        level: how many calls may be in flight.
        limits: what one call may hold, whatever the quota.
        stop: ends all waiting.
        clock: epoch seconds, because processes share the quota's state.
        random: returns numbers from 0 to 1.
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
        self._queue: list[QueuedCall] = []
        self._arrivals = itertools.count()
        self._kept_places: dict[int, Place] = {}
        self._in_flight = 0
        self._proven = False
        self._health = ServiceHealth()
        self._max_answered_texts = 0
        self._timer: asyncio.TimerHandle | None = None
        self._throttled_since: float | None = None
        self._throttled_s = 0.0

    @property
    def throttled_s(self) -> float:
        """How long the head of the queue has waited for quota so far."""
        since, now = self._throttled_since, self._clock()
        return self._throttled_s + (max(0.0, now - since) if since is not None else 0.0)

    @property
    def proven(self) -> bool:
        """Whether the service has answered a call of this process."""
        return self._proven

    @property
    def max_answered_texts(self) -> int:
        """The maximum texts of a call that the service has answered."""
        return self._max_answered_texts

    @property
    def hopeless(self) -> bool:
        """Whether no useful answer has arrived for so long that the run must end."""
        return self._health.hopeless

    def live(self) -> Live:
        """Return the calls in flight, the use of the quota, and why calls wait; thread-safe."""
        now = self._clock()
        head = next(iter(self._queue), None)
        reason, wait_s = None, 0.0
        with self._quota.transaction() as mirror:
            use = mirror.use(now)
            if head is not None:
                reason = mirror.wait_reason(now, len(head.contents), head.tokens)
                wait_s = mirror.wait_s(now, len(head.contents), head.tokens)
        if head is not None and not self._proven:
            reason = Waiting.PROBE
        elif head is not None and (self._health.one_at_a_time or self._health.wait_s(now) > 0):
            reason, wait_s = Waiting.OUTAGE, self._health.wait_s(now)
        return Live(
            in_flight=self._in_flight,
            waiting=reason or (Waiting.SLOTS if head is not None else None),
            wait_s=wait_s if POLL_S < wait_s < math.inf else None,
            quota=use,
        )

    def call_limits(self) -> CallLimits:
        """Return what one call may hold now."""
        now = self._clock()
        with self._quota.transaction() as mirror:
            return mirror.call_limits(now, self._limits)

    def limit_texts(self, texts: int) -> None:
        """Allow at most `texts` in one call from now on: the service accepts no more."""
        self._limits = dataclasses.replace(
            self._limits, texts=max(1, min(texts, self._limits.texts))
        )

    def limit_bytes(self, body_bytes: int) -> None:
        """Allow at most `body_bytes` in a call of several contents: the service accepts no more."""
        most = self._limits.body_bytes
        most = body_bytes if most is None else min(body_bytes, most)
        self._limits = dataclasses.replace(self._limits, body_bytes=most)

    async def enter(
        self, contents: Sequence[Content], tokens: int, *, is_retry: bool = False
    ) -> Slot:
        """Wait until the call may be sent, and count it as sent.

        Args:
            contents: what the call sends.
            tokens: their estimated tokens.
            is_retry: whether they were sent before; such calls go before new ones.

        Raises:
            TooLarge: the limits were lowered, and the call must be packed again.
            DaySpent: nothing remains of the day's quota.
            Stopping: the run must end.
        """
        if self._stop.is_set():
            raise Stopping
        place = self._place_of(contents, is_retry)
        call = QueuedCall(contents, tokens, asyncio.get_running_loop().create_future(), place)
        bisect.insort(self._queue, call, key=lambda one: one.place)
        self._dispatch()
        try:
            slot = await call.slot
        except asyncio.CancelledError:
            self._forget(call)
            raise
        if self._stop.is_set():
            self.cancel(slot)  # The answer that made room for this call could not be stored.
            raise Stopping
        return slot

    def succeed(self, slot: Slot, tokens: int | None, texts: int) -> None:
        """Record that the call was answered with vectors for its `texts`.

        `tokens` is the service's count; None if the answer has none.
        """
        now = self._clock()
        with self._quota.transaction() as mirror:
            mirror.settle(slot.ticket, now, tokens)
        self._level.succeeded(slot.sent_at, now, self._in_flight)
        self._proven = True
        self._max_answered_texts = max(self._max_answered_texts, texts)
        self._health.succeeded(slot.sent_at)
        self._end_call()

    def fail(self, slot: Slot, error: CallError) -> RateLimitEffect | None:
        """Record that the call failed; return what a 429 changed, or None."""
        now = self._clock()
        effect = None
        with self._quota.transaction() as mirror:
            if isinstance(error, QuotaExceeded):
                effect = self._note_rate_limit(mirror, slot, now, error)
            else:
                mirror.fail(slot.ticket, now, charged=isinstance(error, _MAYBE_COUNTED))
        if isinstance(error, Unavailable):
            self._level.failed(slot.sent_at, now)
        self._health.failed(now, slot.sent_at, error, self._random())
        self._end_call()
        return effect

    def abandon(self, slot: Slot) -> None:
        """Record that the call was cancelled in flight: the service may have counted it."""
        with self._quota.transaction() as mirror:
            mirror.fail(slot.ticket, self._clock(), charged=True)
        self._end_call()

    def cancel(self, slot: Slot) -> None:
        """Record that the call was not sent: it counts nowhere."""
        with self._quota.transaction() as mirror:
            mirror.fail(slot.ticket, self._clock(), charged=False)
        self._end_call()

    def close(self) -> None:
        """End all waiting: nothing more is sent."""
        while self._queue:
            call = self._queue.pop(0)
            if not call.slot.done():
                call.slot.set_exception(Stopping())

    def _place_of(self, contents: Sequence[Content], is_retry: bool) -> Place:
        """Return a call's place; contents of a call that was too large keep its place."""
        if self._kept_places:
            kept = [self._kept_places.pop(id(content), None) for content in contents]
            if kept[0] is not None:
                return kept[0]
        return (0 if is_retry else 1, next(self._arrivals))

    def _note_rate_limit(
        self, mirror: QuotaMirror, slot: Slot, now: float, error: QuotaExceeded
    ) -> RateLimitEffect:
        return mirror.rate_limited(
            slot.ticket,
            now,
            delay_s=error.retry_delay_s,
            jitter=self._random(),
            kind=QuotaKind.of_id(error.quota_id),
            quota_value=error.quota_value,
        )

    def _end_call(self) -> None:
        self._in_flight -= 1
        self._dispatch()

    def _dispatch(self) -> None:
        """Give slots to the calls that may be sent now, and set the timer for the next check."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._queue:
            if self._stop.is_set():
                return self.close()
            now = self._clock()
            if self._in_flight >= self._max_in_flight(now):
                return self._note_throttle(now, waiting=False)
            pause = self._health.wait_s(now)
            wait = pause or self._admit(self._queue[0], now)
            if wait > 0:
                self._note_throttle(now, waiting=pause == 0)
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(min(wait, MAX_SLEEP_S), self._dispatch)
                return None
        return self._note_throttle(self._clock(), waiting=False)

    def _max_in_flight(self, now: float) -> int:
        """Return how many calls may be in flight now."""
        if not self._proven or self._health.one_at_a_time:
            return 1
        with self._quota.transaction() as mirror:
            rpm = mirror.limit(now, QuotaKind.RPM)
            texts = 1 if mirror.limits.rpm_counts is RpmCounts.CALLS else mirror.max_texts(now)
        return self._level.level(None if rpm is None else rpm / 60 / max(1, texts))

    def _admit(self, call: QueuedCall, now: float) -> float:
        """Take the head off the queue; or return the seconds that it has to wait."""
        result: Slot | Exception
        if call.slot.done():
            self._queue.pop(0)
            return 0.0
        with self._quota.transaction() as mirror:
            if mirror.day_spent(now):
                if mirror.in_flight:
                    return POLL_S  # Calls in flight return their part of the day if they fail.
                result = DaySpent(mirror.day_resets_at(now))
            elif not within(call.contents, mirror.call_limits(now, self._limits)):
                result = TooLarge()
            else:
                texts = len(call.contents)
                wait = mirror.wait_s(now, texts, call.tokens)
                if wait > 0:
                    return wait
                result = Slot(mirror.take(now, texts, call.tokens), now)
        self._queue.pop(0)
        if isinstance(result, Slot):
            call.slot.set_result(result)
            self._in_flight += 1
            return 0.0
        call.slot.set_exception(result)
        if isinstance(result, TooLarge):
            self._kept_places.update((id(content), call.place) for content in call.contents)
            return REPACK_S
        return 0.0

    def _forget(self, call: QueuedCall) -> None:
        if call.slot.done() and not call.slot.cancelled():
            if call.slot.exception() is None:
                self.cancel(call.slot.result())
        elif call in self._queue:
            self._queue.remove(call)

    def _note_throttle(self, now: float, *, waiting: bool) -> None:
        """Count the time in which the head of the queue waits for quota and nothing else."""
        if self._throttled_since is not None:
            self._throttled_s += max(0.0, now - self._throttled_since)
        self._throttled_since = now if waiting else None
