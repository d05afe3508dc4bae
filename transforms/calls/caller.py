"""Texts to vectors: calls under the quota, sent again or split as their answers demand."""

from __future__ import annotations

import asyncio
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
    CallRefused,
    Intercepted,
    JobRefused,
    OutputError,
    QuotaExceeded,
    Unavailable,
)
from bulkembed.schemas.stop import StopReason
from bulkembed.transforms.calls.answers import counted_tokens
from bulkembed.transforms.calls.gate import DaySpent, Gate, Slot, TooLarge
from bulkembed.transforms.calls.rate_service import RateService
from bulkembed.transforms.calls.retry import (
    Attempts,
    CallStats,
    Retrier,
    day_spent_message,
    dead_code,
)
from bulkembed.transforms.calls.spending import Spending
from bulkembed.transforms.calls.stopping import StopFlag, Stopping
from bulkembed.transforms.clients.decode import Answer
from bulkembed.transforms.core import verdict
from bulkembed.transforms.core.backoff import RetryWait
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.health import RETRYABLE
from bulkembed.transforms.core.packing import halves, pack
from bulkembed.transforms.core.quota_mirror import RateLimitEffect
from bulkembed.transforms.core.timeline import Timeline
from bulkembed.transforms.core.tokens import Features, TokenEstimator, sum_features


class Client(Protocol):
    """A client of the service; see clients.gemini."""

    async def embed(self, items: Sequence[Content]) -> Answer:
        """Return the vectors of the contents, in their order."""

    async def count_tokens(self, content: Content) -> int:
        """Return the service's own count of a content's tokens."""


class Sink(Protocol):
    """Where a text's fate is written down; a text that is never named stays undone."""

    def embedded(self, items: Sequence[Content], answer: Answer, attempts: int) -> None:
        """The texts have vectors."""

    def dead(self, item: Content, code: DeadCode, error: CallError, attempts: int) -> None:
        """The text is given up on."""


log = logging.getLogger("bulkembed")

NO_SUCH_METHOD = (404, 501)
COUNTS_IN_FLIGHT = 8
"""countTokens has a quota of its own, which nobody publishes."""
ROW_DEADLINE_PART = 0.2
"""How much of a call's deadline a row gets that is sent alone because its call kept failing."""
BAD_TRIES = 4
"""Bad answers to one call after which its texts are sent alone: each answer may have been paid."""
INTERCEPTED_TRIES = 5
"""The same for answers of a proxy, which may block a text for what it says."""
UNCUT_PART = 0.8
"""A text estimated below this part of the model's most tokens was surely not cut."""


class Caller:
    """Gets vectors for texts.  Lives on one event loop, serves all units of a process.

    Args:
        client: sends one call.
        gate: says when.
        estimator: guesses tokens, and learns from the service's counts.
        stop: set by answers that end the job; ends all waiting.
        rate_service: asked before each call, on top of the gate.
        spending: holds what a call can cost.
        deadline_s: how long one call is tried again, from its first failure on, and how long no
            call at all may pass.
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
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self._client = client
        self._gate = gate
        self._estimator = estimator
        self._stop = stop
        self._deadline_s = deadline_s
        self._rate_service = rate_service
        self._spending = spending or Spending(None, None, stop)
        self._turn = asyncio.Lock()
        self._clock = clock
        self._retrier = Retrier(stop, deadline_s, RetryWait(random), clock)
        self._counting = asyncio.Semaphore(COUNTS_IN_FLIGHT)
        self._flying: set[asyncio.Future[Answer]] = set()
        self._aborted = False
        self._counts = True
        self._last_answer = -math.inf
        self._failing_since = math.inf
        self.stats = CallStats()
        self.timeline = Timeline()

    async def embed(self, items: Sequence[Content], sink: Sink) -> None:
        """Embeds the texts in as many calls as the limits ask for, several at a time.

        Returns when each text has its fate, or the run is to end.
        """
        calls = pack(items, self._gate.call_limits())
        async with asyncio.TaskGroup() as group:
            for call in calls:
                group.create_task(self._embed_call(call, sink, Attempts(self._deadline_s)))

    def abort(self) -> None:
        """Gives up the calls in the air; their texts stay undone.  On the event loop only."""
        self._aborted = True
        for task in self._flying:
            task.cancel()

    async def count_tokens(self, item: Content) -> int | None:
        """The service's count of a text's tokens, title included.

        None where it does not count, and where the run is to end: then nothing is sent any more.
        """
        attempts = Attempts(self._deadline_s)
        try:
            async with self._counting:
                if self._counts:
                    return await self._retrier.run(
                        lambda: self._client.count_tokens(item),
                        attempts,
                        over=lambda error: self._is_no_count(attempts, error),
                        gated=False,
                    )
        except Stopping:
            return None
        except RETRYABLE as error:
            self._stop.set(_reason(error), f"texts cannot be counted: {error.message}")
        except JobRefused as error:
            if error.http_status not in NO_SUCH_METHOD:
                self._stop.set(StopReason.REFUSED, error.message)
            self._no_counts(error)
        except CallRefused as error:
            self._no_counts(error)
        return None

    def _is_no_count(self, attempts: Attempts, error: CallError) -> bool:
        """Whether to stop asking for a count; pages of a proxy are not asked for any longer."""
        if isinstance(error, Intercepted) and attempts.useless >= INTERCEPTED_TRIES:
            return True
        return attempts.over(self._clock())

    def _no_counts(self, error: CallError) -> None:
        if self._counts:
            log.warning("the service does not count tokens: %s", error.message)
        self._counts = False

    async def _embed_call(self, items: Sequence[Content], sink: Sink, attempts: Attempts) -> None:
        try:
            answer = await self._retrier.run(
                lambda: self._attempt(items, attempts),
                attempts,
                over=lambda error: self._is_at_fault(items, attempts, error),
            )
        except Stopping:
            return
        except TooLarge:
            await self.embed(items, sink)
        except DaySpent as spent:
            self._stop.set(StopReason.DAY_SPENT, day_spent_message(spent.resets_at))
        except (JobRefused, CallRefused) as error:
            if not self._is_about_job(error):
                await self._split(items, sink, error, attempts.count)
        except (Unavailable, Intercepted, BadAnswer) as error:
            await self._give_up(items, sink, error, attempts)
        else:
            try:
                sink.embedded(items, answer, attempts.count)
            except OutputError as error:
                self._stop.set(StopReason.BROKEN, error.message)  # Before another call goes.
                raise

    def _is_at_fault(self, items: Sequence[Content], attempts: Attempts, error: CallError) -> bool:
        """Whether to stop sending a call as it is.

        An answer that costs money or comes from a proxy is not asked for until the deadline.
        """
        if isinstance(error, BadAnswer) and attempts.useless >= BAD_TRIES:
            return len(items) > 1 or self._others_passed(attempts)
        if isinstance(error, Intercepted) and attempts.useless >= INTERCEPTED_TRIES:
            return self._others_passed(attempts)
        return attempts.over(self._clock())

    def _others_passed(self, attempts: Attempts) -> bool:
        """Whether the service has answered other calls since this one failed first."""
        return self._last_answer > attempts.suspect_since

    async def _give_up(
        self, items: Sequence[Content], sink: Sink, error: CallError, attempts: Attempts
    ) -> None:
        """Handle a call that keeps failing.

        Where not one call passed meanwhile, the service is down, and the run ends.  Where others
        pass, the call itself is at fault: it is split once, to the row, so that nobody has to run
        the same command for ever.  A bad answer may be that of one text even where no other call
        is left to pass.
        """
        passed = self._others_passed(attempts)
        split = len(items) > 1 and (passed or isinstance(error, BadAnswer))
        if not passed and not split:
            return self._stop.set(_reason(error), _failed_throughout(attempts.deadline_s, error))
        if not split:
            return sink.dead(items[0], DeadCode.SERVICE_ERROR, error, attempts.count)
        log.warning("a call of %d texts keeps failing: its texts are sent one by one", len(items))
        return await self._resend(
            [[item] for item in items],
            sink,
            deadline_s=attempts.deadline_s * ROW_DEADLINE_PART,
            suspect_since=attempts.suspect_since,
        )

    async def _split(
        self, items: Sequence[Content], sink: Sink, error: CallError, attempts: int
    ) -> None:
        """Narrows a refusal down to the rows it is about: one is given up on only by itself."""
        if len(items) == 1:
            return sink.dead(items[0], dead_code(error), error, attempts)
        # Once a call of that size has passed, such words are those of a text.
        if error.code == "batch_size" and len(items) > self._gate.most_passed:
            cap = error.most_texts or len(items) // 2
            log.warning("the service takes no %d texts per call: %d from now on", len(items), cap)
            self._gate.learn_cap(cap)
            return await self.embed(items, sink)
        index = error.index
        if index is not None and index < len(items):
            rest = [*items[:index], *items[index + 1 :]]
            return await self._resend([[items[index]], rest], sink)
        return await self._resend(halves(items), sink)

    async def _resend(
        self,
        pieces: Iterable[Sequence[Content]],
        sink: Sink,
        *,
        deadline_s: float | None = None,
        suspect_since: float = math.inf,
    ) -> None:
        """Sends the pieces of a call as calls of their own, before those that are new."""
        async with asyncio.TaskGroup() as group:
            for piece in pieces:
                self.stats.calls_retried += 1
                attempts = Attempts(deadline_s or self._deadline_s, True, suspect_since)
                group.create_task(self._embed_call(piece, sink, attempts))

    async def _attempt(self, items: Sequence[Content], attempts: Attempts) -> Answer:
        """One try of a call; raises what the gate and the client do."""
        made_of = sum_features(item.features for item in items)
        tokens = self._estimator.reserve(made_of)
        slot, held = await self._enter(items, tokens, again=attempts.again)
        started = self._clock()
        self.timeline.at(slot.sent_at).retried += attempts.again
        attempts.count += 1
        self.stats.calls_sent += 1
        self.stats.calls_retried += attempts.count > 1
        try:
            answer = await self._in_the_air(items)
        except CallError as error:
            if self._is_about_job(error):
                # Before the gate hears of it, which would let the next call go.
                self._stop.set(StopReason.REFUSED, error.message)
            if isinstance(error, RETRYABLE):
                self._failing_since = min(self._failing_since, self._clock())
            self._note_failure(slot, self._gate.fail(slot, error), error)
            self._spending.failed(held, error)
            self._judge(error, started)
            raise
        except BaseException:
            self._gate.abandon(slot)
            self._spending.settle(held, held)
            raise
        self._last_answer = self._clock()
        self._failing_since = math.inf
        self._retrier.answered()
        self._gate.succeed(slot, answer.tokens, len(items))
        counted = counted_tokens(items, answer)
        self._spending.settle(held, counted)
        took_s = self._last_answer - started
        self.timeline.at(slot.sent_at).answered(len(items), counted, took_s)
        self._learn(items, made_of, answer)
        return answer

    async def _enter(
        self, items: Sequence[Content], tokens: int, *, again: bool
    ) -> tuple[Slot, int]:
        """Return a slot of the gate, and what the call can cost, held.

        While the account has no room, the call waits without a slot: it would be counted against
        the quota, and no other call could use it.
        """
        while True:
            await self._spending.wait_for_room(items)
            slot = await self._turn_of(items, tokens, again=again)
            try:
                held = self._spending.reserve(items)
            except BaseException:
                self._gate.give_back(slot)
                raise
            if held is not None:
                return slot, held
            self._gate.give_back(slot)

    async def _turn_of(self, items: Sequence[Content], tokens: int, *, again: bool) -> Slot:
        """A slot from the gate; where there is a rate service, calls ask it one by one first."""
        if self._rate_service is None:
            return await self._gate.enter(items, tokens, again=again)
        async with self._turn:
            await self._rate_service.allow(len(items))
            return await self._gate.enter(items, tokens, again=again)

    def _is_about_job(self, error: CallError) -> bool:
        """Whether every call would be refused; see `verdict.SETTINGS` for what is none."""
        settings_work = self._gate.proven and error.code in verdict.SETTINGS
        return isinstance(error, JobRefused) and not settings_work

    async def _in_the_air(self, items: Sequence[Content]) -> Answer:
        task = asyncio.ensure_future(self._client.embed(items))
        self._flying.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if self._aborted:
                raise Stopping("the call was given up") from None
            task.cancel()
            raise
        finally:
            self._flying.discard(task)

    def _learn(self, items: Sequence[Content], made_of: Features, answer: Answer) -> None:
        most = self._estimator.max_tokens
        uncut = most is None or all(item.tokens < UNCUT_PART * most for item in items)
        if answer.tokens is not None and uncut:
            self._estimator.learn(made_of, answer.tokens)

    def _note_failure(self, slot: Slot, refusal: RateLimitEffect | None, error: CallError) -> None:
        self.timeline.at(slot.sent_at).gave_none(refused=refusal is not None)
        if refusal is None:
            return
        self.stats.calls_refused += 1
        left = self._left_s()
        if isinstance(error, QuotaExceeded) and error.resets_at is not None:
            self._stop.set(StopReason.DAY_SPENT, day_spent_message(error.resets_at))
        elif refusal.wait_s > left:  # Nothing is sent before the deadline is over.
            loop, since = asyncio.get_running_loop(), self._failing_since
            loop.call_later(left, self._end_if_failing_since, since, error)
        if refusal.adopted:
            old, new = ("none" if one is None else f"{one:,}" for one in refusal.limits)
            log.warning("the service's limit is lower: %s, not %s: %s", new, old, error.message)
        if refusal.pace_changed:
            log.warning(
                "the service refuses calls that its quota should let through: somebody else uses "
                "it, or it counts in another way; from now on calls are spread evenly"
            )

    def _left_s(self) -> float:
        """Return the seconds until no call has passed for one call deadline."""
        return self._failing_since + self._deadline_s - self._clock()

    def _judge(self, error: CallError, started: float) -> None:
        """End the run if no call has had a useful answer for too long.

        Args:
            error: of the last call.
            started: when that call was sent.
        """
        if not isinstance(error, RETRYABLE):
            return
        if self._gate.hopeless:
            self._stop.set(_reason(error), _hopeless(error))
        elif started >= self._failing_since and self._left_s() <= 0:
            self._stop.set(_reason(error), _failed_throughout(self._deadline_s, error))

    def _end_if_failing_since(self, since: float, error: CallError) -> None:
        """End the run if no call has passed since then; on the event loop."""
        if self._failing_since == since:
            self._stop.set(_reason(error), _failed_throughout(self._deadline_s, error))


def _reason(error: CallError) -> StopReason:
    """Why a run ends that an error about the service has stopped."""
    if isinstance(error, BadAnswer):
        return StopReason.USELESS
    return StopReason.REFUSED if isinstance(error, Intercepted) else StopReason.UNAVAILABLE


def _failed_throughout(deadline_s: float, error: CallError) -> str:
    if isinstance(error, QuotaExceeded):
        return (
            f"the quota let nothing through for {deadline_s:g} s: {error.message.rstrip('.')}; see "
            "whether the project's credits are used up, then run the same command again"
        )
    return f"the service failed for {deadline_s:g} s: {error.message}"


def _hopeless(error: CallError) -> str:
    if isinstance(error, BadAnswer):
        return (
            f"the service's answers are of no use, and each may cost money: {error.message}; "
            "check the service, --model and --dim, then run the same command again to go on"
        )
    return error.message
