"""What happens to a call that failed: sent again, split, or given to the dead letters."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Iterable, Sequence

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import (
    BadAnswer,
    CallError,
    CallRejected,
    Intercepted,
    JobRejected,
)
from bulkembed.schemas.messages import content_noun
from bulkembed.transforms.calls.call_queue import Call, CallQueue
from bulkembed.transforms.calls.deliveries import Portion, split_at
from bulkembed.transforms.calls.gate import Gate
from bulkembed.transforms.calls.retry import (
    MAX_INTERCEPTED_TRIES,
    Attempts,
    stop_reason,
)
from bulkembed.transforms.calls.stop_messages import failed_throughout_message
from bulkembed.transforms.calls.stopping import StopFlag
from bulkembed.transforms.clients import classification
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.media_content import MediaContent
from bulkembed.transforms.core.packing import body_size

log = logging.getLogger("bulkembed")

ROW_DEADLINE_FRACTION = 0.2
"""How much of a call's deadline a single resent row gets."""
ALONE_FRACTION = 0.5
"""How much of its deadline a call gets as it is if there is no other that could pass."""
MAX_BAD_TRIES = 4
"""Bad answers to one call after which its contents are sent alone: each may have cost money."""


@dataclasses.dataclass(slots=True)
class CallStats:
    """Calls that a process has sent so far. The names of the fields are those of the counters."""

    calls_sent: int = 0
    calls_retried: int = 0
    calls_refused: int = 0
    """429s. The counter is older than the word "rate-limited"."""


class FailedCalls:
    """Puts the contents of failed calls back into the queue, or reports them as dead.

    Args:
        queue: where contents wait.
        gate: knows what the service has answered, and learns its limits.
        stop: set if the service is down.
        stats: counts what is sent again.
        deadline_s: how long a call is retried.
        clock: seconds, monotonic.
        is_alone: whether there is no other call, waiting or in flight.
    """

    def __init__(
        self,
        queue: CallQueue,
        gate: Gate,
        stop: StopFlag,
        stats: CallStats,
        deadline_s: float,
        clock: Callable[[], float],
        is_alone: Callable[[], bool],
    ) -> None:
        self._queue = queue
        self._gate = gate
        self._stop = stop
        self._stats = stats
        self._deadline_s = deadline_s
        self._clock = clock
        self._is_alone = is_alone
        self._last_answer = -math.inf
        self._max_answered_bytes = 0

    def note_answer(self, contents: Sequence[Content]) -> None:
        """Note that the service has answered a call."""
        self._last_answer = self._clock()
        self._max_answered_bytes = max(self._max_answered_bytes, body_size(contents))

    def is_about_job(self, error: CallError) -> bool:
        """Return whether every call would be rejected; see `classification.SETTINGS`."""
        settings_work = self._gate.proven and error.code in classification.SETTINGS
        return isinstance(error, JobRejected) and not settings_work

    def is_at_fault(self, call: Call, error: CallError) -> bool:
        """Return whether to stop sending a call as it is.

        Answers that cost money or come from a proxy are not retried until the deadline.
        """
        attempts = call.attempts
        if isinstance(error, BadAnswer) and attempts.useless >= MAX_BAD_TRIES:
            return len(call.contents) > 1 or self._others_passed(attempts)
        if isinstance(error, Intercepted) and attempts.useless >= MAX_INTERCEPTED_TRIES:
            return self._others_passed(attempts) or self._may_be_split_alone(call)
        if self._may_be_split_alone(call):
            return attempts.remaining_s(self._clock()) <= attempts.deadline_s * ALONE_FRACTION
        return attempts.is_expired(self._clock())

    def _may_be_split_alone(self, call: Call) -> bool:
        """Return whether only the texts of this call can show whether one of them is at fault."""
        return len(call.contents) > 1 and self._is_alone()

    def _others_passed(self, attempts: Attempts) -> bool:
        """Return whether the service has answered other calls since this one first failed."""
        return self._last_answer > attempts.suspect_since

    def end(self, call: Call, error: CallError) -> None:
        """Handle a call that keeps failing.

        If no other call has passed in the meantime, the service is down, and the run ends. If
        others pass, the call itself is at fault: it is split once, into single contents, so that
        rerunning the command cannot fail at it again and again. So is a call if there is no other
        that could pass: its contents have the rest of its deadline to show what is at fault.
        """
        attempts = call.attempts
        passed, texts = self._others_passed(attempts), len(call.contents)
        alone = not passed and self._may_be_split_alone(call)
        split = texts > 1 and (passed or alone or isinstance(error, BadAnswer))
        if not passed and not split:
            message = failed_throughout_message(attempts.deadline_s, error)
            self._stop.set(stop_reason(error), message)
            return call.release()
        if not split:
            return self._dead(call, DeadCode.SERVICE_ERROR, error)
        noun = _plural_noun(call)
        log.warning(
            "a request with %d %s keeps failing. bulkembed sends its %s one by one.",
            texts,
            noun,
            noun,
        )
        single = [
            [one.part(at, at + 1)] for one in call.portions for at in range(len(one.contents))
        ]
        deadline_s = attempts.deadline_s * ROW_DEADLINE_FRACTION
        if alone:
            deadline_s = attempts.remaining_s(self._clock())
        return self._resend(single, deadline_s, attempts.suspect_since)

    def split(self, call: Call, error: CallError) -> None:
        """Split a rejected call until the contents at fault are alone; only these fail."""
        texts = len(call.contents)
        if texts == 1:
            return self._dead(call, classification.dead_code(error.code), error)
        # Once a call of that size was answered, such words come from a text.
        sized = error if isinstance(error, CallRejected) and error.code == "batch_size" else None
        if sized is not None and texts > self._gate.max_answered_texts:
            cap = min(sized.max_texts or texts // 2, texts - 1)
            log.warning(
                "the service does not accept %d %s per request. "
                "bulkembed sends at most %d from now on.",
                texts,
                _plural_noun(call),
                cap,
            )
            self._gate.limit_texts(cap)
            return self._queue.put_back(call.portions)
        size = body_size(call.contents)
        if error.code == "payload" and size > self._max_answered_bytes:
            log.warning(
                "the service does not accept requests of %.1f MB. bulkembed sends at most %.1f MB "
                "from now on, except for larger rows.",
                size / 1e6,
                size / 2e6,
            )
            self._gate.limit_bytes(size // 2)
            return self._queue.put_back(call.portions)
        index = error.index
        if index is not None and index < texts:
            before, others = split_at(call.portions, index)
            one, after = split_at(others, 1)
            return self._resend([one, [*before, *after]])
        return self._resend(split_at(call.portions, (texts + 1) // 2))

    def _dead(self, call: Call, code: DeadCode, error: CallError) -> None:
        """Report the one content of a call."""
        (portion,) = call.portions
        portion.delivery.dead(portion.contents[0], code, error, call.attempts.count)

    def _resend(
        self,
        parts: Iterable[Sequence[Portion]],
        deadline_s: float | None = None,
        suspect_since: float = math.inf,
    ) -> None:
        """Send the parts of a call as calls of their own, before new calls."""
        for part in parts:
            self._stats.calls_retried += 1
            attempts = Attempts(deadline_s or self._deadline_s, True, suspect_since)
            self._queue.resend(Call(part, attempts))


def _plural_noun(call: Call) -> str:
    has_media = any(isinstance(content, MediaContent) for content in call.contents)
    return f"{content_noun(has_media=has_media)}s"
