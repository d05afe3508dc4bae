"""Get vectors for contents: pack them into calls, and send, retry and split the calls."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import logging
import math
import random as random_module
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import (
    BadAnswer,
    CallError,
    CallRejected,
    Intercepted,
    JobRejected,
    OutputError,
    QuotaExceeded,
    Unavailable,
)
from bulkembed.schemas.media import NO_MEDIA, SAME_PRICE, MediaFactors, MediaTokens
from bulkembed.schemas.stop import RERUN, StopReason
from bulkembed.transforms.calls.gate import DaySpent, Gate, Slot, TooLarge
from bulkembed.transforms.calls.rate_service import RateService
from bulkembed.transforms.calls.retry import (
    MAX_INTERCEPTED_TRIES,
    Attempts,
    Retrier,
    stop_reason,
)
from bulkembed.transforms.calls.spending import Spending
from bulkembed.transforms.calls.stopping import StopFlag, Stopping
from bulkembed.transforms.clients import classification
from bulkembed.transforms.clients.decoding import Answer
from bulkembed.transforms.core.backoff import RetryWait
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.health import RETRYABLE
from bulkembed.transforms.core.media_content import MediaContent
from bulkembed.transforms.core.packing import body_size, halves, pack
from bulkembed.transforms.core.quota_mirror import RateLimitEffect
from bulkembed.transforms.core.timeline import Timeline
from bulkembed.transforms.core.tokens import Features, TokenEstimator, sum_features

log = logging.getLogger("bulkembed")

ROW_DEADLINE_FRACTION = 0.2
"""How much of a call's deadline a single resent row gets."""
MAX_BAD_TRIES = 4
"""Bad answers to one call after which its contents are sent alone: each may have cost money."""
UNCUT_FRACTION = 0.8
"""A text below this fraction of the model's maximum, as estimated, was certainly not cut."""


class Client(Protocol):
    """A client of the service; see clients.gemini."""

    async def embed(self, contents: Sequence[Content]) -> Answer:
        """Return the vectors of the contents, in their order."""

    async def count_tokens(self, content: Content) -> int:
        """Return the service's own count of a content's tokens."""


class ResultReceiver(Protocol):
    """Takes the result of each content.  A content without a result is sent by the next run."""

    def embedded(self, contents: Sequence[Content], answer: Answer, attempts: int) -> None:
        """Take the vectors of one answered call."""

    def dead(self, content: Content, code: DeadCode, error: CallError, attempts: int) -> None:
        """Take the failure of one content."""


@dataclasses.dataclass(slots=True)
class CallStats:
    """Calls that a process has sent so far.  The names of the fields are those of the counters."""

    calls_sent: int = 0
    calls_retried: int = 0
    calls_refused: int = 0
    """429s.  The counter is older than the word "rate-limited"."""


def counted_tokens(contents: Sequence[Content], answer: Answer) -> int:
    """Return the tokens of an answered call: the service's count, or else the estimate."""
    return sum(content.tokens for content in contents) if answer.tokens is None else answer.tokens


def counted_media(contents: Sequence[Content], answer: Answer) -> MediaTokens:
    """Return those of the tokens of an answered call that are of media: counted, or estimated."""
    if answer.media is not None:
        return answer.media
    media = (one.tokens_by_modality for one in contents if isinstance(one, MediaContent))
    return sum(media, NO_MEDIA)


def media_tokens(contents: Sequence[Content]) -> int:
    """Return the tokens of the media of a call."""
    return sum(content.media_tokens for content in contents)


class Caller:
    """Gets vectors for contents.  Lives on one event loop and serves all units of a process.

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
        self._deadline_s = deadline_s
        self._rate_service = rate_service
        self._rate_service_queue = asyncio.Lock()
        self._factors = factors
        self._spending = spending or Spending(None, None, stop)
        self._clock = clock
        self._in_flight: set[asyncio.Future[Answer]] = set()
        self._aborted = False
        self._max_answered_bytes = 0
        self._last_answer = -math.inf
        self._failing_since = math.inf
        self.retrier = Retrier(stop, deadline_s, RetryWait(random), clock)
        self.stats = CallStats()
        self.timeline = Timeline()

    async def embed(self, contents: Sequence[Content], receiver: ResultReceiver) -> None:
        """Embed the contents in as many calls as the limits require, several at a time.

        Returns when each content has a result, or when the run must end.
        """
        calls = pack(contents, self._gate.call_limits())
        async with asyncio.TaskGroup() as group:
            for call in calls:
                group.create_task(self._embed_call(call, receiver, Attempts(self._deadline_s)))

    def abort(self) -> None:
        """Cancel the calls in flight; their contents get no result.  On the event loop only."""
        self._aborted = True
        for task in self._in_flight:
            task.cancel()

    async def _embed_call(
        self, contents: Sequence[Content], receiver: ResultReceiver, attempts: Attempts
    ) -> None:
        try:
            answer = await self.retrier.run(
                lambda: self._attempt(contents, attempts),
                attempts,
                give_up=lambda error: self._is_at_fault(contents, attempts, error),
            )
        except Stopping:
            return
        except TooLarge:
            await self.embed(contents, receiver)
        except DaySpent as spent:
            self._stop.set(StopReason.DAY_SPENT, _day_spent_message(spent.resets_at))
        except (JobRejected, CallRejected) as error:
            if not self._is_about_job(error):
                await self._split(contents, receiver, error, attempts.count)
        except (Unavailable, Intercepted, BadAnswer) as error:
            await self._handle_failing_call(contents, receiver, error, attempts)
        else:
            try:
                receiver.embedded(contents, answer, attempts.count)
            except OutputError as error:
                self._stop.set(StopReason.BROKEN, error.message)  # Before another call is sent.
                raise

    def _is_at_fault(
        self, contents: Sequence[Content], attempts: Attempts, error: CallError
    ) -> bool:
        """Return whether to stop sending a call as it is.

        Answers that cost money or come from a proxy are not retried until the deadline.
        """
        if isinstance(error, BadAnswer) and attempts.useless >= MAX_BAD_TRIES:
            return len(contents) > 1 or self._others_passed(attempts)
        if isinstance(error, Intercepted) and attempts.useless >= MAX_INTERCEPTED_TRIES:
            return self._others_passed(attempts)
        return attempts.is_expired(self._clock())

    def _others_passed(self, attempts: Attempts) -> bool:
        """Return whether the service has answered other calls since this one first failed."""
        return self._last_answer > attempts.suspect_since

    async def _handle_failing_call(
        self,
        contents: Sequence[Content],
        receiver: ResultReceiver,
        error: CallError,
        attempts: Attempts,
    ) -> None:
        """Handle a call that keeps failing.

        If no other call has passed in the meantime, the service is down, and the run ends. If
        others pass, the call itself is at fault: it is split once, into single contents, so that
        rerunning the command cannot fail at it again and again. A bad answer may be caused by one
        content even if no other call is left that could pass.
        """
        passed = self._others_passed(attempts)
        split = len(contents) > 1 and (passed or isinstance(error, BadAnswer))
        if not passed and not split:
            message = _failed_throughout_message(attempts.deadline_s, error)
            return self._stop.set(stop_reason(error), message)
        if not split:
            return receiver.dead(contents[0], DeadCode.SERVICE_ERROR, error, attempts.count)
        log.warning(
            "a request with %d texts keeps failing. bulkembed sends its texts one by one.",
            len(contents),
        )
        return await self._resend(
            [[content] for content in contents],
            receiver,
            deadline_s=attempts.deadline_s * ROW_DEADLINE_FRACTION,
            suspect_since=attempts.suspect_since,
        )

    async def _split(
        self, contents: Sequence[Content], receiver: ResultReceiver, error: CallError, attempts: int
    ) -> None:
        """Split a rejected call until the contents at fault are alone; only these fail."""
        if len(contents) == 1:
            return receiver.dead(contents[0], classification.dead_code(error.code), error, attempts)
        # Once a call of that size was answered, such words come from a text.
        sized = error if isinstance(error, CallRejected) and error.code == "batch_size" else None
        if sized is not None and len(contents) > self._gate.max_answered_texts:
            cap = sized.max_texts or len(contents) // 2
            log.warning(
                "the service does not accept %d texts per request. "
                "bulkembed sends at most %d from now on.",
                len(contents),
                cap,
            )
            self._gate.limit_texts(cap)
            return await self.embed(contents, receiver)
        size = body_size(contents)
        if error.code == "payload" and size > self._max_answered_bytes:
            log.warning(
                "the service does not accept requests of %.1f MB. bulkembed sends at most %.1f MB "
                "from now on, except for larger rows.",
                size / 1e6,
                size / 2e6,
            )
            self._gate.limit_bytes(size // 2)
            return await self.embed(contents, receiver)
        index = error.index
        if index is not None and index < len(contents):
            rest = [*contents[:index], *contents[index + 1 :]]
            return await self._resend([[contents[index]], rest], receiver)
        return await self._resend(halves(contents), receiver)

    async def _resend(
        self,
        parts: Iterable[Sequence[Content]],
        receiver: ResultReceiver,
        *,
        deadline_s: float | None = None,
        suspect_since: float = math.inf,
    ) -> None:
        """Send the parts of a call as calls of their own, before new calls."""
        async with asyncio.TaskGroup() as group:
            for part in parts:
                self.stats.calls_retried += 1
                attempts = Attempts(deadline_s or self._deadline_s, True, suspect_since)
                group.create_task(self._embed_call(part, receiver, attempts))

    async def _attempt(self, contents: Sequence[Content], attempts: Attempts) -> Answer:
        """Send a call once; raise what the gate and the client raise."""
        features = sum_features(content.features for content in contents)
        tokens = self._estimator.reserve(features) + media_tokens(contents)
        slot, reserved = await self._enter(contents, tokens, is_retry=attempts.is_retry)
        started = self._clock()
        self.timeline.at(slot.sent_at).retried += attempts.is_retry
        attempts.count += 1
        self.stats.calls_sent += 1
        self.stats.calls_retried += attempts.count > 1
        try:
            answer = await self._send(contents)
        except CallError as error:
            if self._is_about_job(error):
                # Before the gate knows of the failure and sends the next call.
                self._stop.set(StopReason.REJECTED, error.message)
            if isinstance(error, RETRYABLE):
                self._failing_since = min(self._failing_since, self._clock())
            self._note_failure(slot, self._gate.fail(slot, error), error)
            self._spending.failed(reserved, error)
            self._end_run_if_down(error, started)
            raise
        except BaseException:
            self._gate.abandon(slot)
            self._spending.lost(reserved)
            raise
        self._last_answer = self._clock()
        self._failing_since = math.inf
        self.retrier.answered()
        self._gate.succeed(slot, answer.tokens, len(contents))
        self._max_answered_bytes = max(self._max_answered_bytes, body_size(contents))
        counted = counted_tokens(contents, answer)
        surcharge = self._factors.surcharge(counted_media(contents, answer))
        self._spending.settle(reserved, counted + surcharge)
        self.timeline.at(slot.sent_at).add_answer(
            len(contents), counted, self._last_answer - started
        )
        self._learn(contents, features, answer)
        return answer

    async def _enter(
        self, contents: Sequence[Content], tokens: int, *, is_retry: bool
    ) -> tuple[Slot, int]:
        """Return a slot of the gate, and the reserved tokens.

        While the account has no room, the call waits without a slot. A slot would count against the
        quota, and no other call could use it.
        """
        while True:
            await self._spending.wait_for_room(contents)
            slot = await self._wait_for_slot(contents, tokens, is_retry=is_retry)
            try:
                reserved = self._spending.reserve(contents)
            except BaseException:
                self._gate.cancel(slot)
                raise
            if reserved is not None:
                return slot, reserved
            self._gate.cancel(slot)

    async def _wait_for_slot(
        self, contents: Sequence[Content], tokens: int, *, is_retry: bool
    ) -> Slot:
        """Return a slot of the gate; with a rate service, calls ask that first, one by one."""
        if self._rate_service is None:
            return await self._gate.enter(contents, tokens, is_retry=is_retry)
        async with self._rate_service_queue:
            await self._rate_service.allow(len(contents))
            return await self._gate.enter(contents, tokens, is_retry=is_retry)

    def _is_about_job(self, error: CallError) -> bool:
        """Return whether every call would be rejected; see `classification.SETTINGS`."""
        settings_work = self._gate.proven and error.code in classification.SETTINGS
        return isinstance(error, JobRejected) and not settings_work

    async def _send(self, contents: Sequence[Content]) -> Answer:
        task = asyncio.ensure_future(self._client.embed(contents))
        self._in_flight.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if self._aborted:
                raise Stopping from None
            task.cancel()
            raise
        finally:
            self._in_flight.discard(task)

    def _learn(self, contents: Sequence[Content], features: Features, answer: Answer) -> None:
        maximum = self._estimator.max_tokens
        uncut = maximum is None or all(
            content.tokens < UNCUT_FRACTION * maximum for content in contents
        )
        if answer.tokens is not None and uncut and not media_tokens(contents):
            self._estimator.learn(features, answer.tokens)

    def _note_failure(self, slot: Slot, effect: RateLimitEffect | None, error: CallError) -> None:
        """Record a failure; `effect` is what a 429 changed."""
        self.timeline.at(slot.sent_at).add_error(rate_limited=effect is not None)
        if effect is None:
            return
        self.stats.calls_refused += 1
        remaining_s = self._remaining_s()
        if effect.day_resets_at is not None:
            self._stop.set(StopReason.DAY_SPENT, _day_spent_message(effect.day_resets_at))
        elif effect.wait_s > remaining_s:  # Nothing is sent before the deadline.
            loop, since = asyncio.get_running_loop(), self._failing_since
            loop.call_later(remaining_s, self._end_run_if_failing_since, since, error)
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

    def _remaining_s(self) -> float:
        """Return the seconds until no call has passed for one call deadline."""
        return self._failing_since + self._deadline_s - self._clock()

    def _end_run_if_down(self, error: CallError, started: float) -> None:
        """End the run if no call has had a useful answer for too long.

        Args:
            error: of the last call.
            started: when that call was sent.
        """
        if not isinstance(error, RETRYABLE):
            return
        if self._gate.hopeless:
            self._stop.set(stop_reason(error), _hopeless_message(error))
        elif started >= self._failing_since and self._remaining_s() <= 0:
            self._stop.set(stop_reason(error), _failed_throughout_message(self._deadline_s, error))

    def _end_run_if_failing_since(self, since: float, error: CallError) -> None:
        """End the run if no call has passed since then; on the event loop."""
        if self._failing_since == since:
            self._stop.set(stop_reason(error), _failed_throughout_message(self._deadline_s, error))


def _day_spent_message(resets_at: float) -> str:
    when = dt.datetime.fromtimestamp(resets_at).astimezone()
    return (
        f"the day's quota is spent and resets at {when:%Y-%m-%d %H:%M %Z}. "
        "Then rerun the same command to resume."
    )


def _failed_throughout_message(deadline_s: float, error: CallError) -> str:
    words = error.message.rstrip(".")
    if isinstance(error, QuotaExceeded):
        return (
            f"every request was rate-limited (429) for {deadline_s:g} s: {words}. Check whether "
            "the project's credits are used up. Then rerun the same command to resume."
        )
    return f"the service failed for {deadline_s:g} s: {words}. {RERUN}"


def _hopeless_message(error: CallError) -> str:
    if isinstance(error, BadAnswer):
        return (
            "the service's answers are unusable, and each may cost money: "
            f"{error.message.rstrip('.')}. Check the service, --model and --dim. "
            "Then rerun the same command to resume."
        )
    return error.message
