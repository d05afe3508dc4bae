"""Get vectors for contents: send calls, and hand out their results."""

from __future__ import annotations

import asyncio
import logging
import random as random_module
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from bulkembed.schemas.errors import (
    CallError,
    CallRejected,
    JobRejected,
    OutputError,
    QuotaExceeded,
)
from bulkembed.schemas.media import SAME_PRICE, MediaFactors
from bulkembed.schemas.stop import StopReason
from bulkembed.transforms.calls.answer_parts import answers_of, counted_media, counted_tokens
from bulkembed.transforms.calls.call_queue import Call, CallQueue, Draft, media_tokens
from bulkembed.transforms.calls.deliveries import Delivery, ResultReceiver
from bulkembed.transforms.calls.dispatcher import Dispatcher
from bulkembed.transforms.calls.failed_calls import CallStats, FailedCalls
from bulkembed.transforms.calls.gate import Gate, Slot
from bulkembed.transforms.calls.outage import ServiceOutage
from bulkembed.transforms.calls.rate_service import RateService
from bulkembed.transforms.calls.retry import Retrier
from bulkembed.transforms.calls.spending import Spending
from bulkembed.transforms.calls.stop_messages import (
    day_spent_message,
)
from bulkembed.transforms.calls.stopping import StopFlag, Stopping
from bulkembed.transforms.clients.decoding import Answer
from bulkembed.transforms.core.backoff import RetryWait
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.health import RETRYABLE
from bulkembed.transforms.core.quota_mirror import RateLimitEffect
from bulkembed.transforms.core.timeline import Timeline
from bulkembed.transforms.core.tokens import TokenEstimator

log = logging.getLogger("bulkembed")

UNCUT_FRACTION = 0.8
"""A text below this fraction of the model's maximum, as estimated, was certainly not cut."""


class Client(Protocol):
    """A client of the service; see clients.gemini."""

    async def embed(self, contents: Sequence[Content]) -> Answer:
        """Return the vectors of the contents, in their order."""

    async def count_tokens(self, content: Content) -> int:
        """Return the service's own count of a content's tokens."""


class Caller:
    """Gets vectors for contents. Lives on one event loop and serves all units of a process.

    Args:
        client: sends one call.
        gate: says when a call may be sent.
        estimator: estimates tokens, and learns from the service's counts.
        stop: set by answers that end the job; ends all waiting.
        deadline_s: how long one call is retried from its first failure on, and how long it may
            take until any call passes.
        spending: reserves what a call can cost.
        rate_service: asked before each call, in addition to the gate.
        factors: the prices of media.
        clock: seconds, monotonic.
        random: returns numbers from 0 to 1.
    """

    def __init__(
        self,
        client: Client,
        gate: Gate,
        estimator: TokenEstimator,
        stop: StopFlag,
        *,
        deadline_s: float = 600.0,
        spending: Spending | None = None,
        rate_service: RateService | None = None,
        factors: MediaFactors = SAME_PRICE,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self._client = client
        self._gate = gate
        self._estimator = estimator
        self._stop = stop
        self._factors = factors
        self._spending = spending or Spending(None, None, stop)
        self._clock = clock
        self._queue = CallQueue(estimator)
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight: dict[asyncio.Future[Answer], Call] = {}
        self._aborted = False
        self._outage = ServiceOutage(stop, deadline_s, clock)
        self.retrier = Retrier(stop, deadline_s, RetryWait(random), clock)
        self.stats = CallStats()
        self.timeline = Timeline()
        self._dispatcher = Dispatcher(
            self._queue, gate, self._start, stop,
            spending=self._spending, retrier=self.retrier, deadline_s=deadline_s,
            rate_service=rate_service,
        )  # fmt: skip
        self._failed = FailedCalls(
            self._queue, gate, stop, self.stats, deadline_s, clock, self._is_last_call
        )

    @property
    def throttled_s(self) -> float:
        """How long the next call has waited for quota so far."""
        return self._dispatcher.throttled_s

    async def embed(self, contents: Sequence[Content], receiver: ResultReceiver) -> None:
        """Embed the contents, in calls that they share with those of other receivers.

        Returns when each content has a result, or when the run must end.

        Raises:
            Exception: what the receiver, the client or the account raises.
        """
        if not contents or self._stop.is_set():
            return
        delivery = Delivery(receiver, len(contents))
        self._queue.add(contents, delivery)
        self._dispatcher.dispatch()
        try:
            await delivery.wait()
        except (asyncio.CancelledError, Exception):
            self._forget(delivery)
            raise

    def expect(self, sources: int) -> None:
        """Say that so many more, or fewer, are about to hand in contents. On the loop only.

        While there are any, a call that is not full waits a little for what they bring.
        """
        self._queue.sources += sources
        if sources < 0:
            # Soon, but after what the same step of the loop hands in or announces.
            asyncio.get_running_loop().call_soon(self._dispatcher.dispatch)

    def close(self) -> None:
        """End all waiting: nothing more is sent. On the event loop only."""
        self._dispatcher.close()

    def abort(self) -> None:
        """Cancel the calls in flight; their contents get no result. On the event loop only."""
        self._aborted = True
        for answer in self._in_flight:
            answer.cancel()

    def _is_last_call(self) -> bool:
        """Return whether there is no other call than the one whose task asks."""
        return len(self._tasks) == 1 and not self._queue

    def _forget(self, delivery: Delivery) -> None:
        """Forget a receiver; calls that nobody waits for any more are cancelled."""
        delivery.close()
        self._queue.withdraw(delivery)
        for answer, call in self._in_flight.items():
            if not call.is_wanted:
                answer.cancel()

    def _start(self, call: Call, draft: Draft, slot: Slot, reserved: int) -> None:
        """Start to send a call; the dispatcher's `Send`."""
        work = self._run(call, draft, slot, reserved)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # The event loop keeps weak references only.
        task.add_done_callback(self._tasks.discard)

    async def _run(self, call: Call, draft: Draft, slot: Slot, reserved: int) -> None:
        try:
            await self._handle(call, draft, slot, reserved)
        except Exception as error:
            for portion in call.portions:
                self._fail(portion.delivery, error)
        self._dispatcher.dispatch()

    def _fail(self, delivery: Delivery, error: Exception) -> None:
        delivery.fail(error)
        self._queue.withdraw(delivery)

    async def _handle(self, call: Call, draft: Draft, slot: Slot, reserved: int) -> None:
        """Send a call once, and do with its contents what the result requires."""
        try:
            answer = await self._attempt(call, draft, slot, reserved)
        except Stopping:
            call.release()
        except (JobRejected, CallRejected) as error:
            if self._failed.is_about_job(error):
                call.release()
            else:
                self._failed.split(call, error)
        except QuotaExceeded:
            call.attempts.rate_limited += 1
            self._queue.resend(call)  # The gate holds all calls back, which is no failure of this.
        except RETRYABLE as error:
            self._dispatcher.dispatch()  # Other calls do not wait for this one.
            await self._retry(call, error)
        else:
            self._deliver(call, answer)

    async def _retry(self, call: Call, error: CallError) -> None:
        """Queue a call again, after a wait, or end it."""
        try:
            await self.retrier.wait_after(
                error, call.attempts, give_up=lambda last: self._failed.is_at_fault(call, last)
            )
        except Stopping:
            call.release()
        except RETRYABLE as last:
            self._failed.end(call, last)
        else:
            self._queue.resend(call)

    def _deliver(self, call: Call, answer: Answer) -> None:
        """Hand out the vectors of a call. The first receiver that takes some counts the call."""
        attempts = call.attempts.count
        parts = answers_of(answer, call.portions)
        for portion, part in zip(call.portions, parts, strict=True):
            if not portion.delivery.is_open:
                continue
            try:
                portion.delivery.embedded(portion.contents, part, attempts)
            except Exception as error:
                if isinstance(error, OutputError):
                    self._stop.set(StopReason.BROKEN, error.message)  # Nothing more is sent.
                self._fail(portion.delivery, error)
            else:
                attempts = 0

    async def _attempt(self, call: Call, draft: Draft, slot: Slot, reserved: int) -> Answer:
        """Send a call once; raise what the client raises."""
        contents, attempts = call.contents, call.attempts
        if self._stop.is_set() or not call.is_wanted:
            self._gate.cancel(slot)
            self._spending.settle(reserved, 0)
            raise Stopping
        started = self._clock()
        self.timeline.at(slot.sent_at).retried += attempts.is_retry
        attempts.count += 1
        self.stats.calls_sent += 1
        self.stats.calls_retried += attempts.count > 1
        try:
            answer = await self._send(call)
        except CallError as error:
            if self._failed.is_about_job(error):
                # Before the gate knows of the failure and sends the next call.
                self._stop.set(StopReason.REJECTED, error.message)
            self._outage.failed(error)
            self._note_failure(slot, self._gate.fail(slot, error), error)
            self._spending.failed(reserved, error)
            self._outage.check(error, started, is_hopeless=self._gate.hopeless)
            raise
        except BaseException:
            self._gate.abandon(slot)
            self._spending.lost(reserved)
            raise
        self._failed.note_answer(contents)
        self._outage.answered()
        self.retrier.answered()
        self._gate.succeed(slot, answer.tokens, len(contents))
        counted = counted_tokens(contents, answer)
        surcharge = self._factors.surcharge(counted_media(contents, answer))
        self._spending.settle(reserved, counted + surcharge)
        self.timeline.at(slot.sent_at).add_answer(len(contents), counted, self._clock() - started)
        self._learn(draft, answer)
        return answer

    async def _send(self, call: Call) -> Answer:
        answer = asyncio.ensure_future(self._client.embed(call.contents))
        self._in_flight[answer] = call
        try:
            return await answer
        except asyncio.CancelledError:
            if self._aborted or not call.is_wanted:
                raise Stopping from None
            answer.cancel()
            raise
        finally:
            del self._in_flight[answer]
            # A failed task has the error, and the error this frame: a cycle with all of the call.
            del answer

    def _learn(self, draft: Draft, answer: Answer) -> None:
        maximum = self._estimator.max_tokens
        uncut = maximum is None or all(
            content.tokens < UNCUT_FRACTION * maximum for content in draft.contents
        )
        if answer.tokens is not None and uncut and not media_tokens(draft.contents):
            self._estimator.learn(draft.features, answer.tokens)

    def _note_failure(self, slot: Slot, effect: RateLimitEffect | None, error: CallError) -> None:
        """Record a failure; `effect` is what a 429 changed."""
        self.timeline.at(slot.sent_at).add_error(rate_limited=effect is not None)
        if effect is None:
            return
        self.stats.calls_refused += 1
        if effect.day_resets_at is not None:
            self._stop.set(StopReason.DAY_SPENT, day_spent_message(effect.day_resets_at))
        else:
            self._outage.pause(effect.wait_s, error)
        if effect.adopted:
            old, new = ("none" if one is None else f"{one:,}" for one in effect.limits)
            log.warning(
                "the service's limit is lower: %s instead of %s (%s)", new, old, error.message
            )
        if effect.pace_changed:
            log.warning(
                "the service rejects requests (429) although the quota has room. Another program "
                "uses the quota, or the service counts differently. bulkembed now spreads its "
                "requests evenly."
            )
