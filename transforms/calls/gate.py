"""Whether the next call may be sent: the quota, the service's health, and the calls in flight."""

from __future__ import annotations

import dataclasses
import math
import random as random_module
import time
from collections.abc import Callable

from bulkembed.schemas.errors import BadAnswer, CallError, Intercepted, QuotaExceeded, Unavailable
from bulkembed.schemas.live import Live, Waiting
from bulkembed.schemas.quota import QuotaKind, RpmCounts
from bulkembed.transforms.calls.call_queue import CallQueue, Draft
from bulkembed.transforms.calls.shared_quota import Quota
from bulkembed.transforms.core.concurrency import ConcurrencyLevel
from bulkembed.transforms.core.health import ServiceHealth
from bulkembed.transforms.core.packing import CallLimits
from bulkembed.transforms.core.part_calls import PART_WAIT_S, HeadWait, PartWait
from bulkembed.transforms.core.quota_mirror import POLL_S, QuotaMirror, RateLimitEffect

_MAYBE_COUNTED = (Unavailable, Intercepted, BadAnswer)
"""Errors after which the service may have counted the call."""


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


@dataclasses.dataclass(frozen=True, slots=True)
class Hold:
    """Why no call may be sent now."""

    seconds: float
    """Until the next look; inf if an answer decides."""
    for_quota: bool = False
    """Whether quota is all that the call waits for."""


class Gate:
    """Forms the next call from the queue, if one may be sent. Lives on one event loop.

    A call has a slot only while it is in flight, not while it waits for quota or after a failure.
    The first call of a process is a probe: it is sent alone, and the others wait for its answer.

    Args:
        quota: the mirror of the service's quotas.
        level: how many calls may be in flight.
        limits: what one call may hold, whatever the quota.
        clock: epoch seconds, because processes share the quota's state.
        random: returns numbers from 0 to 1.
    """

    def __init__(
        self,
        quota: Quota,
        level: ConcurrencyLevel,
        limits: CallLimits,
        *,
        clock: Callable[[], float] = time.time,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self._quota = quota
        self._level = level
        self._limits = limits
        self._clock = clock
        self._random = random
        self._in_flight = 0
        self._proven = False
        self._health = ServiceHealth()
        self._part_wait = PartWait()
        self._head_wait = HeadWait()
        self._max_answered_texts = 0
        self._head: tuple[int, int] | None = None

    @property
    def clock(self) -> Callable[[], float]:
        """The clock of the quota, in epoch seconds."""
        return self._clock

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
        now, head = self._clock(), self._head
        reason, wait_s = None, 0.0
        with self._quota.transaction() as mirror:
            use = mirror.use(now)
            if head is not None:
                reason, wait_s = mirror.wait_reason(now, *head), mirror.wait_s(now, *head)
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

    def offer(self, queue: CallQueue, monotonic: float) -> Draft | Hold | None:
        """Return the call that may be sent now, or how long to wait; None if nothing waits.

        The call is as full as the limits allow. If the rest of the window has no room for it, it
        is the part that has, or shorter contents behind it; see `core.part_calls`.

        Args:
            queue: what waits.
            monotonic: the event loop's time.

        Raises:
            DaySpent: nothing remains of the day's quota.
        """
        now = self._clock()
        with self._quota.transaction() as mirror:
            draft = queue.draft(mirror.call_limits(now, self._limits))
            self._head = None if draft is None else (draft.texts, draft.tokens)
            if draft is None:
                return None
            if self._in_flight >= self._max_in_flight(mirror, now):
                return Hold(math.inf)
            if (pause_s := self._health.wait_s(now)) > 0:
                return Hold(pause_s)
            if mirror.day_spent(now):
                if mirror.in_flight:  # They return their part of the day if they fail.
                    return Hold(POLL_S, for_quota=True)
                raise DaySpent(mirror.day_resets_at(now))
            wait_s = mirror.wait_s(now, draft.texts, draft.tokens)
            if wait_s > 0:
                return self._part(queue, mirror, draft, wait_s, now, monotonic)
        linger_s = queue.linger_s(draft)
        return Hold(linger_s) if linger_s > 0 else draft

    def _part(
        self,
        queue: CallQueue,
        mirror: QuotaMirror,
        draft: Draft,
        wait_s: float,
        now: float,
        monotonic: float,
    ) -> Draft | Hold:
        """Return what may be sent in place of a call that has to wait so long."""
        if not mirror.parts_help:
            return Hold(wait_s, for_quota=True)
        part = queue.part(draft, *mirror.room(now))
        if part is None:
            head = queue.first(draft, 1)
            head_wait_s = mirror.wait_s(now, head.texts, head.tokens)
            due = self._head_wait.due(now, head_wait_s)
            room = mirror.room_beside(now, head.texts, head.tokens, due)
            part = queue.behind(mirror.call_limits(now, self._limits), *room)
            wait_s = min(wait_s, head_wait_s or wait_s, max(due - now, POLL_S))
        elif part.texts == draft.texts:
            part = None
        if part is None:
            # More room, also by an answer to another process, may be enough for a part.
            look_s = max(mirror.more_room_s(now), PART_WAIT_S)
            return Hold(min(wait_s, look_s), for_quota=True)
        part_wait_s = mirror.wait_s(now, part.texts, part.tokens)
        if part_wait_s == 0 and not (part.places and part.is_full):
            part_wait_s = self._part_wait.wait_s(monotonic, mirror.more_room_s(now))
        return Hold(min(wait_s, part_wait_s), for_quota=True) if part_wait_s > 0 else part

    def take(self, draft: Draft) -> Slot | None:
        """Count a call as sent; None if another process has used the quota since the offer."""
        now = self._clock()
        with self._quota.transaction() as mirror:
            if mirror.wait_s(now, draft.texts, draft.tokens) > 0:
                return None
            slot = Slot(mirror.take(now, draft.texts, draft.tokens), now)
        self._in_flight += 1
        self._part_wait.sent()
        if not draft.places:
            self._head_wait.sent()
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
        self._in_flight -= 1

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
        self._in_flight -= 1
        return effect

    def abandon(self, slot: Slot) -> None:
        """Record that the call was cancelled in flight: the service may have counted it."""
        self._forget(slot, charged=True)

    def cancel(self, slot: Slot) -> None:
        """Record that the call was not sent: it counts nowhere."""
        self._forget(slot, charged=False)

    def _forget(self, slot: Slot, *, charged: bool) -> None:
        with self._quota.transaction() as mirror:
            mirror.fail(slot.ticket, self._clock(), charged=charged)
        self._in_flight -= 1

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

    def _max_in_flight(self, mirror: QuotaMirror, now: float) -> int:
        """Return how many calls may be in flight now."""
        if not self._proven or self._health.one_at_a_time:
            return 1
        rpm = mirror.limit(now, QuotaKind.RPM)
        texts = 1 if mirror.limits.rpm_counts is RpmCounts.CALLS else mirror.max_texts(now)
        return self._level.level(None if rpm is None else rpm / 60 / max(1, texts))
