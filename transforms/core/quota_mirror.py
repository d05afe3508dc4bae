"""A copy of the service's quota counters: when a call may be sent, and how large it may be.

The service counts a call at a moment that the client cannot see, between sending and answering.
Therefore a call counts here while it is in flight, and then until 60 s after its answer, the latest
moment at which the service can have counted it, plus a margin. The margin covers clocks that run at
different speeds and windows that move in steps. The mirror never counts too little. It counts too
much only by one latency and the margin (about 0.45 s of 60 s), because each call expires by itself.

`now` is in epoch seconds (`time.time`), because processes share the state. A clock that is set back
only delays calls. A clock that is set forward by more than the margin can cause 429 answers for a
minute.
"""

from __future__ import annotations

import dataclasses
import math
import sys

from bulkembed.schemas.live import QuotaUse, Waiting
from bulkembed.schemas.models import MAX_TEXTS
from bulkembed.schemas.quota import Pace, QuotaKind, QuotaLimits, RpmCounts
from bulkembed.transforms.core.packing import CallLimits
from bulkembed.transforms.core.quota_state import MARGIN_S, WINDOW_S, QuotaState, SentCall

FEW_IN_FLIGHT = 4
ROOM_FRACTION = 0.4
"""While others may use the quota, this many calls, or this part of the room, may be in flight."""
CAUTION_S = 180.0
"""After an unexplained 429, others may use the quota for this long."""
POLL_S = 0.05
"""The wait that is returned where an answer decides, and not the clock."""

CALL_TPM_FRACTION = 0.02
"""The part of a minute's tokens that one call may use: small calls fill a window well."""
SMOOTH_CALLS_PER_MIN = 60
SMOOTH_TEXTS = 20
"""At the smooth pace, send fewer calls than that rather than calls with fewer texts than this."""
SMOOTH_SLACK_S = 1.0
"""How far a caller may fall behind the smooth pace and still catch up."""
_ROUNDING_S = 1e-6

Size = tuple[int, int]
"""Requests and tokens of a call."""


@dataclasses.dataclass(frozen=True, slots=True)
class RateLimitEffect:
    """What a 429 answer changed."""

    wait_s: float
    """Seconds until the pause is over."""
    adopted: bool = False
    """The service reported a limit below the one in force."""
    limits: tuple[int | None, int | None] = (None, None)
    """This host's share of the limit before and after."""
    unexplained: bool = False
    """The mirror saw room: others use the quota, or the service counts differently."""
    pace_changed: bool = False
    """The pace is smooth from now on; true once."""
    day_resets_at: float | None = None
    """When the day's quota resets, in epoch seconds; None for a limit per minute."""


class QuotaMirror:
    """The quota counters of one project and model. Pure, apart from its own state.

    Args:
        limits: the quota, and how it is used.
        margin_s: added to each window.
        call_texts: maximum texts of one call.
        call_timeout_s: after this time a call counts as answered, whoever sent it, so that the
            calls of a crashed process do not count for ever.
    """

    def __init__(
        self,
        limits: QuotaLimits,
        margin_s: float = MARGIN_S,
        *,
        call_texts: int = MAX_TEXTS,
        call_timeout_s: float = 120.0,
    ) -> None:
        self.limits = limits
        self.call_texts = call_texts
        self._state = QuotaState(limits, margin_s, call_timeout_s)

    def wait_s(self, now: float, texts: int, tokens: int) -> float:
        """Return the seconds until a call of that size may be sent.

        0.0 means now, and inf means never: pack it smaller. The result is finite within `max_texts`
        and `max_tokens`. If nothing is in flight, the call fits after that wait. Otherwise call
        this again after the wait or after an answer. A call with more tokens than TPM waits for an
        empty window: the estimate may be too high, so the service decides.
        """
        state = self._state
        state.refresh(now)
        size = self._requests(texts), tokens
        rpm, tpm = state.limit(now, QuotaKind.RPM), state.limit(now, QuotaKind.TPM)
        if rpm is not None and size[0] > rpm:
            return math.inf
        wait = max(state.pause.wait_s(now), _day_wait_s(state, now, size[0]))
        if self.pace is Pace.SMOOTH:
            wait = max(wait, state.smooth_at - now)
        wait = max(wait, _window_wait_s(state, now, size, rpm, tpm))
        return wait + _ROUNDING_S if wait > 0 else _answer_wait_s(state, now, size, rpm, tpm)

    @property
    def parts_help(self) -> bool:
        """Whether calls that are not full use what is left of a window.

        They do not at the smooth pace, where the window is not what limits, or if the service
        counts requests: then a smaller call takes as much as a full one.
        """
        return self.pace is Pace.WINDOW and self.limits.rpm_counts is RpmCounts.TEXTS

    def room(self, now: float) -> Size:
        """Return how many texts and tokens are free now."""
        state = self._state
        state.refresh(now)
        rpm, tpm = state.limit(now, QuotaKind.RPM), state.limit(now, QuotaKind.TPM)
        window = state.window
        texts = self.call_texts
        if rpm is not None:
            texts = max(0, min(texts, rpm - window.requests - state.requests_in_flight))
        if tpm is None:
            return texts, sys.maxsize
        return texts, max(0, tpm - window.tokens - state.tokens_in_flight)

    def room_beside(self, now: float, texts: int, tokens: int, due: float) -> Size:
        """Return how many texts and tokens are free now, and not needed for a call that waits.

        Args:
            now: epoch seconds.
            texts: of the call that waits.
            tokens: of that call.
            due: when it has to have room.
        """
        room, state = self.room(now), self._state
        rpm, tpm = state.limit(now, QuotaKind.RPM), state.limit(now, QuotaKind.TPM)
        left = state.window.left_by(due)
        used = state.window.requests + state.requests_in_flight - left[0] + texts
        used_tokens = state.window.tokens + state.tokens_in_flight - left[1] + tokens
        return (
            room[0] if rpm is None else max(0, min(room[0], rpm - used)),
            room[1] if tpm is None else max(0, min(room[1], tpm - used_tokens)),
        )

    def more_room_s(self, now: float) -> float:
        """Return the seconds until more may be free; inf if nothing is counted.

        0.0 if an answer may do that: it frees the tokens that were reserved and not used.
        """
        state = self._state
        if state.in_flight and state.limit(now, QuotaKind.TPM) is not None:
            return 0.0
        return state.window.frees_at(1, 0) - now

    def take(self, now: float, texts: int, tokens: int) -> int:
        """Count a call that is about to be sent; return its ticket.

        Raises:
            ValueError: `wait_s` is above 0.
        """
        wait = self.wait_s(now, texts, tokens)
        if wait > 0:
            raise ValueError(f"a call of {texts} texts, {tokens} tokens must wait {wait:.3f} s")
        state, requests = self._state, self._requests(texts)
        interval_s = _even_interval_s(state, now, (requests, tokens))
        state.smooth_at = max(state.smooth_at, now - SMOOTH_SLACK_S) + interval_s
        return state.add_call(now, requests, tokens)

    def max_texts(self, now: float) -> int:
        """Return the maximum texts of one call now; 0 if the day's quota is spent.

        Full calls of that size fill a window evenly: 61 of 123 per minute, because calls of 100
        would leave 23 unused. At the smooth pace they may be up to twice as large as intended, for
        the same reason.
        """
        self._state.refresh(now)
        remaining = self._remaining_today(now)
        if self.limits.rpm_counts is RpmCounts.CALLS:
            return self.call_texts if remaining >= 1 else 0
        rpm = self._state.limit(now, QuotaKind.RPM)
        result = min(self.call_texts, remaining)
        if rpm is not None:
            calls = math.ceil(rpm / self.call_texts)
            if self.pace is Pace.SMOOTH:
                calls = max(calls, min(SMOOTH_CALLS_PER_MIN, rpm // SMOOTH_TEXTS))
            size = max(1, rpm // calls)
            # A learned limit changes all the time: another size each time would mean repacking.
            if self.pace is Pace.SMOOTH and self._state.learned[QuotaKind.RPM].value == math.inf:
                size = _best_filling(rpm, range(size, min(self.call_texts, 2 * size) + 1))
            result = min(result, size)
        return int(result)

    def max_tokens(self, now: float) -> int | None:
        """Return the maximum tokens of a call with several texts; None without a limit.

        A single text may always be sent alone, however long it is.
        """
        tpm = self._state.limit(now, QuotaKind.TPM)
        return None if tpm is None else max(1, int(tpm * CALL_TPM_FRACTION))

    def call_limits(self, now: float, within: CallLimits) -> CallLimits:
        """Return what one call may hold now; `within` holds whatever the quota."""
        caps = [cap for cap in (within.tokens, self.max_tokens(now)) if cap is not None]
        texts = max(1, min(within.texts, self.max_texts(now)))
        return dataclasses.replace(within, texts=texts, tokens=min(caps, default=None))

    def settle(self, ticket: int, now: float, tokens: int | None = None) -> None:
        """Record an answer: the call counts for 60 s and a margin from now.

        Args:
            ticket: of the call; one that has expired or is unknown changes nothing.
            now: epoch seconds.
            tokens: what the service counted; None keeps the estimate.
        """
        state = self._state
        state.refresh(now)
        call = state.remove_call(ticket)
        if call is None:
            return
        sent_at, requests, estimate = call
        counted = estimate if tokens is None else tokens
        state.window.add(now, requests, counted)
        state.pause.succeeded(sent_at)
        if sent_at > state.incident_at:
            state.answers_since_incident += 1
        else:
            state.learned[QuotaKind.RPM].passed_after_cut(requests)
            state.learned[QuotaKind.TPM].passed_after_cut(counted)

    def fail(self, ticket: int, now: float, charged: bool = False) -> None:
        """Record that a call brought no answer.

        Args:
            ticket: of the call.
            now: epoch seconds.
            charged: whether the service may have counted it (time-outs, resets, 5xx). Then it
                stays in the minute's window, where that costs little. The day gets it back in any
                case: if the service did count it, one 429 reports that.
        """
        state = self._state
        state.refresh(now)
        call = state.remove_call(ticket)
        if call is None:
            return
        _, requests, tokens = call
        state.day.used = max(0, state.day.used - requests)
        if charged:
            state.window.add(now, requests, tokens)

    def rate_limited(
        self,
        ticket: int,
        now: float,
        *,
        delay_s: float | None = None,
        jitter: float = 0.0,
        kind: QuotaKind | None = None,
        quota_value: int | None = None,
    ) -> RateLimitEffect:
        """Record a 429 answer: return the call's quota, pause all calls, and learn from it.

        A 429 for the day ends the day (`day_spent`) and pauses nothing: its delay is not reliable.
        A 429 without details has None for `delay_s`, `kind` and `quota_value`.

        Args:
            ticket: of the call.
            now: epoch seconds.
            delay_s: the answer's RetryInfo; None if it has none.
            jitter: from 0 to 1, a random number.
            kind: the limit that the answer names; None if it names none.
            quota_value: the limit's value that the answer names; None if it names none.
        """
        state = self._state
        call = state.in_flight.get(ticket, (now, 0, 0))
        self.fail(ticket, now)
        before = state.limit(now, kind) if kind else None
        adopted = bool(kind and quota_value and state.adopt(now, kind, quota_value))
        limits = (before, state.limit(now, kind)) if kind else (None, None)
        if kind is QuotaKind.RPD:
            state.day.spent = True
            resets_at = state.day.ends_at
            return RateLimitEffect(resets_at - now, adopted, limits, day_resets_at=resets_at)
        is_new = call[0] > state.incident_at
        wait = state.pause.failed(now, call[0], delay_s, jitter)
        unexplained = is_new and not adopted and not self._tokens_exceeded(now, kind, call)
        if adopted or unexplained:
            state.incident_at = now
        pace = self.pace
        if unexplained:
            state.unexplained += self._learn(now, kind, wait)
            state.answers_since_incident = 0
        return RateLimitEffect(wait, adopted, limits, unexplained, self.pace is not pace)

    @property
    def pace(self) -> Pace:
        """How the quota is used now: as configured, or smoothly after unexplained 429s."""
        return Pace.SMOOTH if self._state.unexplained else self.limits.pace

    @property
    def in_flight(self) -> int:
        """Calls in flight, of all processes that share the state."""
        return len(self._state.in_flight)

    def limit(self, now: float, kind: QuotaKind) -> int | None:
        """Return the limit in force: this host's share, lowered by what was learned."""
        return self._state.limit(now, kind)

    def use(self, now: float) -> QuotaUse:
        """Return what counts against each limit now, including calls in flight."""
        state = self._state
        state.refresh(now)
        window = state.window
        use = QuotaUse.of(
            rpm=(window.requests + state.requests_in_flight, state.limit(now, QuotaKind.RPM)),
            tpm=(window.tokens + state.tokens_in_flight, state.limit(now, QuotaKind.TPM)),
            rpd=(state.day.used, state.limit(now, QuotaKind.RPD)),
        )
        in_flight = (window.span_s, state.requests_in_flight, state.tokens_in_flight)
        leaving = (*window.leaving(now), *([in_flight] if state.in_flight else ()))
        return dataclasses.replace(use, leaving=leaving, is_smooth=self.pace is Pace.SMOOTH)

    def wait_reason(self, now: float, texts: int, tokens: int) -> Waiting | None:
        """Return why a call of that size has to wait; None if the quota lets it pass."""
        state, size = self._state, (self._requests(texts), tokens)
        rpm, tpm = state.limit(now, QuotaKind.RPM), state.limit(now, QuotaKind.TPM)
        if _day_wait_s(state, now, size[0]) > 0:
            return Waiting.RPD
        if state.pause.wait_s(now) > 0:
            return Waiting.RATE_LIMITED
        if _window_wait_s(state, now, size, rpm, None) > 0:
            return Waiting.RPM
        if _window_wait_s(state, now, size, None, tpm) > 0:
            return Waiting.TPM
        if self.pace is Pace.SMOOTH and state.smooth_at > now:
            return Waiting.PACE
        return Waiting.PROBE if _answer_wait_s(state, now, size, rpm, tpm) > 0 else None

    def day_spent(self, now: float) -> bool:
        """Return whether nothing remains of the day. Calls in flight return theirs if they fail."""
        self._state.refresh(now)
        return self._remaining_today(now) < 1

    def day_resets_at(self, now: float) -> float:
        """Return when the day's quota resets: a second after midnight in California."""
        self._state.refresh(now)
        return self._state.day.ends_at

    def to_bytes(self) -> bytes:
        """Return the state for a shared file; it does not contain limits and margins."""
        return self._state.to_bytes()

    def load(self, data: bytes) -> bool:
        """Restore the state of `to_bytes`; start over and return False if `data` is not one."""
        return self._state.load(data)

    def _requests(self, texts: int) -> int:
        return 1 if self.limits.rpm_counts is RpmCounts.CALLS else texts

    def _remaining_today(self, now: float) -> float:
        return self._state.day.remaining(self._state.limit(now, QuotaKind.RPD))

    def _tokens_exceeded(self, now: float, kind: QuotaKind | None, call: SentCall) -> bool:
        """Return whether estimates that are too low by 25 % would explain the 429."""
        state = self._state
        tpm = state.limit(now, QuotaKind.TPM)
        if tpm is None or kind is QuotaKind.RPM:
            return False
        in_flight = state.tokens_in_flight + call[2]
        return state.window.tokens + 1.25 * in_flight > tpm

    def _learn(self, now: float, kind: QuotaKind | None, wait_s: float) -> bool:
        """Learn from a 429 for a limit, or for the fullest one; return whether it was lowered."""
        state = self._state
        used = {QuotaKind.RPM: state.window.requests, QuotaKind.TPM: state.window.tokens}
        fill = {k: used[k] / limit for k in used if (limit := state.limit(now, k))}
        which = kind if kind in fill else max(fill, key=fill.__getitem__, default=None)
        if which is None:
            return False
        limit, calls = state.limit(now, which) or 1, state.answers_since_incident
        return state.learned[which].learn_from_429(now, limit, used[which], calls, wait_s)


def _day_wait_s(state: QuotaState, now: float, requests: int) -> float:
    """Return the seconds until the next day if this one has too little left; inf if no day has."""
    rpd = state.limit(now, QuotaKind.RPD)
    if rpd is not None and requests > rpd:
        return math.inf
    return 0.0 if state.day.remaining(rpd) >= requests else state.day.ends_at - now


def _window_wait_s(
    state: QuotaState, now: float, size: Size, rpm: int | None, tpm: int | None
) -> float:
    """Return the seconds until enough has left the window; all of it if calls in flight fill it."""
    window = state.window
    excess = excess_tokens = 0
    if rpm is not None:
        excess = window.requests + state.requests_in_flight + size[0] - rpm
    if tpm is not None:
        excess_tokens = window.tokens + state.tokens_in_flight + min(size[1], tpm) - tpm
    if excess <= 0 and excess_tokens <= 0:
        return 0.0
    frees_at = window.frees_at(excess, excess_tokens)
    return frees_at - now if frees_at < math.inf else window.span_s


def _answer_wait_s(
    state: QuotaState, now: float, size: Size, rpm: int | None, tpm: int | None
) -> float:
    """Return POLL_S while an answer has to come first: for the probe, and in the first minute.

    In the first minute, and for some minutes after a 429, nobody knows how much of the window
    others have used. Then fewer calls may be in flight as the limit comes near, so that other users
    cause only a few 429s.
    """
    if not state.in_flight:
        return 0.0
    newest_sent_at = next(reversed(state.in_flight.values()))[0]
    if state.pause.probing and newest_sent_at >= state.pause.failed_at:
        return POLL_S
    window_known = now >= max(state.began_at + WINDOW_S, state.incident_at + CAUTION_S)
    if window_known or len(state.in_flight) < FEW_IN_FLIGHT:
        return 0.0
    crowded = _is_crowded(rpm, state.window.requests, state.requests_in_flight + size[0])
    crowded = crowded or _is_crowded(tpm, state.window.tokens, state.tokens_in_flight + size[1])
    return POLL_S if crowded else 0.0


def _is_crowded(limit: int | None, counted: int, in_flight: int) -> bool:
    return limit is not None and in_flight > (limit - counted) * ROOM_FRACTION


def _even_interval_s(state: QuotaState, now: float, size: Size) -> float:
    """Return the time that a call of that size takes at the smooth pace."""
    rpm, tpm = state.limit(now, QuotaKind.RPM), state.limit(now, QuotaKind.TPM)
    by_requests = size[0] / rpm if rpm else 0.0
    by_tokens = min(1.0, size[1] / tpm) if tpm else 0.0
    return max(by_requests, by_tokens) * WINDOW_S


def _best_filling(rpm: int, sizes: range) -> int:
    """Return the smallest size whose full calls leave at most 1 % of a window, or the least."""
    return min(sizes, key=lambda size: max(rpm % size, rpm // 100))
