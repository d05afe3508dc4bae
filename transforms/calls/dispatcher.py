"""Sends what is queued as soon as it may be sent: the timers, and what is asked before a call."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any

from bulkembed.schemas.errors import Unavailable
from bulkembed.schemas.stop import StopReason
from bulkembed.transforms.calls.call_queue import Call, CallQueue, Draft
from bulkembed.transforms.calls.gate import DaySpent, Gate, Hold, Slot
from bulkembed.transforms.calls.rate_service import RateService
from bulkembed.transforms.calls.retry import Attempts, Retrier
from bulkembed.transforms.calls.spending import Spending
from bulkembed.transforms.calls.stop_messages import day_spent_message, failed_throughout_message
from bulkembed.transforms.calls.stopping import StopFlag, Stopping

MAX_SLEEP_S = 5.0
"""How long the queue sleeps at most: other processes may free quota in the meantime."""

Send = Callable[[Call, Draft, Slot, int], None]
"""Starts to send a call: the call, its measures, its slot and the tokens reserved for it."""


class Dispatcher:
    """Takes calls from the queue, one after the other, and starts them. Lives on one event loop.

    A call is formed when the gate lets it pass, with no more contents than the budget has room for.
    If the account or the rate service makes it wait, the queue waits for that, and the call is
    formed again: meanwhile it uses no quota.

    Args:
        queue: what waits.
        gate: whether a call may be sent.
        send: starts to send a call.
        stop: ends all waiting.
        spending: reserves what a call can cost.
        retrier: retries questions to the rate service.
        deadline_s: how long a call is retried.
        rate_service: asked before each call, in addition to the gate.
    """

    def __init__(
        self,
        queue: CallQueue,
        gate: Gate,
        send: Send,
        stop: StopFlag,
        *,
        spending: Spending,
        retrier: Retrier,
        deadline_s: float,
        rate_service: RateService | None = None,
    ) -> None:
        self._queue = queue
        self._gate = gate
        self._send = send
        self._stop = stop
        self._spending = spending
        self._retrier = retrier
        self._deadline_s = deadline_s
        self._rate_service = rate_service
        self._allowed_texts = 0
        self._timer: asyncio.TimerHandle | None = None
        self._blocked: asyncio.Task[None] | None = None
        self._throttled_since: float | None = None
        self._throttled_s = 0.0

    @property
    def throttled_s(self) -> float:
        """How long the head of the queue has waited for quota so far."""
        since, now = self._throttled_since, self._gate.clock()
        return self._throttled_s + (max(0.0, now - since) if since is not None else 0.0)

    def dispatch(self) -> None:
        """Start the calls that may be sent now, and set the timer for the next look."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._stop.is_set():
            return self.close()
        loop = asyncio.get_running_loop()
        while self._blocked is None:
            try:
                offer = self._gate.offer(self._queue, loop.time())
            except DaySpent as spent:
                self._stop.set(StopReason.DAY_SPENT, day_spent_message(spent.resets_at))
                return self.close()
            if offer is None:
                break
            if isinstance(offer, Hold):
                self._note_throttle(waiting=offer.for_quota)
                if offer.seconds < math.inf:
                    wait_s = min(offer.seconds, MAX_SLEEP_S)
                    self._timer = loop.call_later(wait_s, self.dispatch)
                return None
            self._start(offer)
            if self._stop.is_set():
                return self.close()
        return self._note_throttle(waiting=False)

    def close(self) -> None:
        """End all waiting: nothing more is sent."""
        self._note_throttle(waiting=False)
        for portion in self._queue.drain():
            portion.delivery.release(len(portion.contents))

    def _start(self, draft: Draft) -> None:
        """Send a call, or block the queue until what it needs is there."""
        if self._rate_service is not None and draft.texts > self._allowed_texts:
            return self._block(self._ask_rate_service(self._rate_service, draft.texts))
        try:
            reserved = self._spending.reserve(draft.contents)
        except Stopping:
            return None
        except Exception as error:
            return self._fail(error)
        if reserved is None:
            return self._block(self._spending.wait_for_room(draft.contents))
        if reserved.texts < draft.texts:
            draft = self._queue.first(draft, reserved.texts)
        slot = self._gate.take(draft)
        if slot is None:
            return self._spending.settle(reserved.tokens, 0)
        if self._rate_service is not None:
            self._allowed_texts -= draft.texts
        self._send(self._queue.take(draft, self._deadline_s), draft, slot, reserved.tokens)
        return None

    async def _ask_rate_service(self, service: RateService, texts: int) -> None:
        missing = texts - self._allowed_texts
        attempts = Attempts(self._deadline_s)
        try:
            await self._retrier.run(
                lambda: service.allow(missing),
                attempts,
                give_up=lambda _: self._retrier.is_expired(attempts),
            )
        except Unavailable as error:
            message = failed_throughout_message(self._deadline_s, error)
            self._stop.set(StopReason.UNAVAILABLE, message)
        else:
            self._allowed_texts = texts

    def _block(self, work: Coroutine[Any, Any, None]) -> None:
        self._blocked = asyncio.get_running_loop().create_task(self._unblock(work))

    async def _unblock(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Stopping:
            pass
        except Exception as error:
            self._fail(error)
        self._blocked = None
        self.dispatch()

    def _fail(self, error: Exception) -> None:
        """End with an error for all who wait."""
        for portion in self._queue.drain():
            portion.delivery.fail(error)

    def _note_throttle(self, *, waiting: bool) -> None:
        """Count the time in which the head of the queue waits for quota and nothing else."""
        now = self._gate.clock()
        if self._throttled_since is not None:
            self._throttled_s += max(0.0, now - self._throttled_since)
        self._throttled_since = now if waiting else None
