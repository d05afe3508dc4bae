"""An exact mirror of the service's quotas: when may a call go, and how big may it be?

The far end counts a call at a moment that this side cannot see, somewhere between sending and
answering. So a call counts here from the moment it is taken, for as long as it is in the air, and
then until 60 s after its answer, the latest moment at which it can have been counted, and a small
margin for clocks that run at different speeds and windows kept in steps. That is never too little,
and it is dear by one answer's time and the margin a window (some 0.45 s of 60 s), not more: the
entry of each call leaves by itself, so only the calls at the head of a window wait for it.

Time is `now`, in seconds of a wall clock (`time.time`), because processes share the state. A clock
set back only delays; a clock set forward by more than the margin can cost refusals for a minute.
"""

from __future__ import annotations

import dataclasses
import math

from bulkembed.schemas.live import QuotaUse, Waiting
from bulkembed.schemas.quota import Pace, QuotaKind, QuotaLimits, RpmCounts
from bulkembed.transforms.core.backoff import waking_jitter_s
from bulkembed.transforms.core.packing import CallLimits
from bulkembed.transforms.core.quota_counters import WINDOW_S
from bulkembed.transforms.core.quota_ledger import Call, QuotaLedger

APPROACH_CALLS = 3
APPROACH_PART = 1 / 3
"""While strangers may be about, so many calls, or this part of the room left, may be in the air."""
WARY_S = 180.0
"""For so long after an unexplained refusal strangers may be about."""
POLL_S = 0.05
"""The wait told where an answer in the air decides, not the clock."""

Ask = tuple[int, int]


def for_day(book: QuotaLedger, now: float, requests: int) -> float:
    """Until the next day where this one has too little left; inf where no day has enough."""
    rpd = book.limit(now, QuotaKind.RPD)
    if rpd is not None and requests > rpd:
        return math.inf
    return 0.0 if book.day.left(rpd) >= requests else book.day.ends_at - now


def for_window(book: QuotaLedger, now: float, ask: Ask, rpm: int | None, tpm: int | None) -> float:
    """Until enough of what was counted has left; a whole window where calls in the air hold it."""
    window = book.window
    over = over_tokens = 0
    if rpm is not None:
        over = window.requests + book.air_requests + ask[0] - rpm
    if tpm is not None:
        over_tokens = window.tokens + book.air_tokens + min(ask[1], tpm) - tpm
    if over <= 0 and over_tokens <= 0:
        return 0.0
    frees_at = window.frees_at(over, over_tokens)
    return frees_at - now if frees_at < math.inf else window.span_s


def for_answer(book: QuotaLedger, now: float, ask: Ask, rpm: int | None, tpm: int | None) -> float:
    """Waits that end with an answer: for the probe after a pause, and in the first minute.

    In the first minute, and some minutes after a refusal, nobody knows what others have used of the
    window, so calls in the air get fewer as the limit comes near: a stranger's use then costs a
    few refusals, not K of them.
    """
    if not book.air:
        return 0.0
    if book.pause.probing and next(reversed(book.air.values()))[0] >= book.pause.refused_at:
        return POLL_S
    known = now - max(book.began_at + WINDOW_S, book.incident_at + WARY_S) >= 0
    if known or len(book.air) < APPROACH_CALLS:
        return 0.0
    crowded = _crowded(rpm, book.window.requests, book.air_requests + ask[0])
    crowded = crowded or _crowded(tpm, book.window.tokens, book.air_tokens + ask[1])
    return POLL_S if crowded else 0.0


def _crowded(limit: int | None, counted: int, in_air: int) -> bool:
    return limit is not None and in_air > (limit - counted) * APPROACH_PART


def evenly(book: QuotaLedger, now: float, ask: Ask) -> float:
    """The time that a call of that size takes at an even pace."""
    rpm, tpm = book.limit(now, QuotaKind.RPM), book.limit(now, QuotaKind.TPM)
    by_requests = ask[0] / rpm if rpm else 0.0
    by_tokens = min(1.0, ask[1] / tpm) if tpm else 0.0
    return max(by_requests, by_tokens) * WINDOW_S


def use_of(book: QuotaLedger, now: float) -> QuotaUse:
    """Requests and tokens of the last minute and requests of the day, calls in the air included."""
    book.refresh(now)
    window = book.window
    return QuotaUse.of(
        rpm=(window.requests + book.air_requests, book.limit(now, QuotaKind.RPM)),
        tpm=(window.tokens + book.air_tokens, book.limit(now, QuotaKind.TPM)),
        rpd=(book.day.used, book.limit(now, QuotaKind.RPD)),
    )


def waits_for(book: QuotaLedger, now: float, ask: Ask, pace: Pace) -> Waiting | None:
    """What a call of (requests, tokens) waits for; None where the quota lets it go."""
    rpm, tpm = book.limit(now, QuotaKind.RPM), book.limit(now, QuotaKind.TPM)
    if for_day(book, now, ask[0]) > 0:
        return Waiting.RPD
    if book.pause.wait_s(now) > 0:
        return Waiting.REFUSED
    if for_window(book, now, ask, rpm, None) > 0:
        return Waiting.RPM
    if for_window(book, now, ask, None, tpm) > 0:
        return Waiting.TPM
    if pace is Pace.SMOOTH and book.smooth_at > now:
        return Waiting.PACE
    return Waiting.PROBE if for_answer(book, now, ask, rpm, tpm) > 0 else None


MARGIN_S = 0.25
CALL_TEXTS = 100
CALL_TPM_PART = 0.02
"""The part of a minute's tokens that one call may ask for: small enough to fill a window well."""
SMOOTH_CALLS_PER_MIN = 60
SMOOTH_TEXTS = 20
"""Fewer calls than that many a minute rather than calls with fewer texts than this."""
SMOOTH_SLACK_S = 1.0
"""How far behind its even pace a caller may be and still catch up."""
_ROUNDING_S = 1e-6


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """What a 429 changed."""

    wait_s: float
    """Until the pause is over."""
    adopted: bool = False
    """The service named a limit lower than the one that was kept; warn once."""
    limits: tuple[int | None, int | None] = (None, None)
    """What was kept before an adopted limit, and what is kept now (this host's share)."""
    unexplained: bool = False
    """The mirror saw room: somebody else uses the quota, or it is counted in another way."""
    pace_changed: bool = False
    """The pace is smooth from now on; say so once."""


class QuotaMirror:
    """The quotas of one project and model, mirrored; pure but for its own state.

    `call_timeout_s` is after how long a call in the air is over at the latest, whoever sent it:
    a ticket of a crashed owner counts as answered then.
    """

    def __init__(
        self,
        limits: QuotaLimits,
        margin_s: float = MARGIN_S,
        *,
        call_texts: int = CALL_TEXTS,
        call_timeout_s: float = 120.0,
    ) -> None:
        self.limits = limits
        self.call_texts = call_texts
        self._ledger = QuotaLedger(limits, margin_s, call_timeout_s)

    def wait_s(self, now: float, texts: int, tokens: int) -> float:
        """Seconds until a call of that size may go: 0.0 is now, inf is never (pack it smaller).

        Within `most_texts` and `most_tokens` it is finite, and where nothing is in the air the call
        fits after that wait; else ask again then, or when an answer came. More tokens than TPM
        wait for an empty window: the estimate may be too high, so the service is asked.
        """
        book = self._ledger
        book.refresh(now)
        ask = self._requests(texts), tokens
        rpm, tpm = book.limit(now, QuotaKind.RPM), book.limit(now, QuotaKind.TPM)
        if rpm is not None and ask[0] > rpm:
            return math.inf
        wait = max(book.pause.wait_s(now), for_day(book, now, ask[0]))
        if self.pace is Pace.SMOOTH:
            wait = max(wait, book.smooth_at - now)
        wait = max(wait, for_window(book, now, ask, rpm, tpm))
        return wait + _ROUNDING_S if wait > 0 else for_answer(book, now, ask, rpm, tpm)

    def take(self, now: float, texts: int, tokens: int) -> int:
        """Count a call that is about to be sent; gives its ticket.

        Raises: ValueError if `wait_s` is above 0.
        """
        wait = self.wait_s(now, texts, tokens)
        if wait > 0:
            raise ValueError(f"a call of {texts} texts, {tokens} tokens must wait {wait:.3f} s")
        book, requests = self._ledger, self._requests(texts)
        even_s = evenly(book, now, (requests, tokens))
        book.smooth_at = max(book.smooth_at, now - SMOOTH_SLACK_S) + even_s
        return book.launch(now, requests, tokens)

    def most_texts(self, now: float) -> int:
        """The most texts one call may hold now; 0 means that the day is spent.

        Full calls fill a window evenly: 61 of 123 a minute, for 100 would leave 23 unused.  At
        the smooth pace they may be up to twice as large as wanted, for the same reason.
        """
        self._ledger.refresh(now)
        left = self._day_left(now)
        if self.limits.rpm_counts is RpmCounts.CALLS:
            return self.call_texts if left >= 1 else 0
        rpm = self._ledger.limit(now, QuotaKind.RPM)
        most = min(self.call_texts, left)
        if rpm is not None:
            calls = math.ceil(rpm / self.call_texts)
            if self.pace is Pace.SMOOTH:
                calls = max(calls, min(SMOOTH_CALLS_PER_MIN, rpm // SMOOTH_TEXTS))
            size = max(1, rpm // calls)
            # A learnt limit creeps: each step would ask for another size of calls already packed.
            if self.pace is Pace.SMOOTH and self._ledger.learnt[QuotaKind.RPM].value == math.inf:
                size = _filling(rpm, range(size, min(self.call_texts, 2 * size) + 1))
            most = min(most, size)
        return int(most)

    def most_tokens(self, now: float) -> int | None:
        """The most tokens a call of several texts may hold; None without a limit.

        One text may always go by itself, however long it is.
        """
        tpm = self._ledger.limit(now, QuotaKind.TPM)
        return None if tpm is None else max(1, int(tpm * CALL_TPM_PART))

    def call_limits(self, now: float, most: CallLimits) -> CallLimits:
        """The most that one call may hold now, within `most`, which holds whatever the quota."""
        caps = [cap for cap in (most.tokens, self.most_tokens(now)) if cap is not None]
        texts = max(1, min(most.texts, self.most_texts(now)))
        return dataclasses.replace(most, texts=texts, tokens=min(caps, default=None))

    def settle(self, ticket: int, now: float, tokens: int | None = None) -> None:
        """The call was answered: it leaves 60 s and a margin from now, with its actual tokens.

        None keeps the estimate. A ticket that ran out or is not known changes nothing.
        """
        book = self._ledger
        book.refresh(now)
        call = book.land(ticket)
        if call is None:
            return
        sent_at, requests, reserved = call
        counted = reserved if tokens is None else tokens
        book.window.add(now, requests, counted)
        book.pause.succeeded(sent_at)
        book.passed(sent_at)
        if sent_at <= book.incident_at:
            book.learnt[QuotaKind.RPM].passed_late(requests)
            book.learnt[QuotaKind.TPM].passed_late(counted)

    def refuse(self, ticket: int, now: float, charged: bool = False) -> None:
        """The call failed. `charged`: the service may have counted it (time-outs, resets, 5xx).

        Then it stays in the minute's window, where that costs little. The day's counter gets it
        back in any case: where the service did count it, it will say so itself, once.
        """
        book = self._ledger
        book.refresh(now)
        call = book.land(ticket)
        if call is None:
            return
        book.day.used = max(0, book.day.used - call[1])
        if charged:
            book.window.add(now, call[1], call[2])

    def on_refusal(
        self,
        ticket: int,
        now: float,
        *,
        delay_s: float | None = None,
        jitter: float = 0.0,
        kind: QuotaKind | None = None,
        quota_value: int | None = None,
    ) -> Refusal:
        """The call was answered 429: give it back, pause everybody, learn from it.

        `kind` and `quota_value` are what the answer says, None where it is silent. A day's
        refusal spends the day (`day_spent`), and pauses nobody: its delay is not to be believed.
        """
        book = self._ledger
        call = book.air.get(ticket, (now, 0, 0))
        self.refuse(ticket, now)
        before = book.limit(now, kind) if kind else None
        adopted = bool(kind and quota_value and book.adopt(now, kind, quota_value))
        limits = (before, book.limit(now, kind)) if kind else (None, None)
        if kind is QuotaKind.RPD:
            book.day.spent = True
            return Refusal(book.day.ends_at - now, adopted, limits)
        new = call[0] > book.incident_at
        wait = book.pause.refused(now, call[0], delay_s, jitter)
        unexplained = new and not adopted and not self._tokens_ran_over(now, kind, call)
        if adopted or unexplained:
            book.incident_at = now
        pace = self.pace
        if unexplained:
            book.unexplained += self._strike(now, kind, wait)
            book.passes = 0
        return Refusal(wait, adopted, limits, unexplained, self.pace is not pace)

    def pause(self, now: float, delay_s: float, jitter: float = 0.0) -> None:
        """Nobody may go for `delay_s`, and for `jitter` times a tenth of it (1 s at most) more."""
        self._ledger.pause.hold(now, delay_s + waking_jitter_s(delay_s, jitter))

    def adopt(
        self, now: float, rpm: int | None = None, tpm: int | None = None, rpd: int | None = None
    ) -> bool:
        """Keep limits that the service names, where they are lower; True if any was.

        They are the project's: the share is applied to them as well. They hold for an hour.
        """
        self._ledger.refresh(now)
        named = zip(QuotaKind, (rpm, tpm, rpd), strict=True)
        return any([self._ledger.adopt(now, kind, value or 0) for kind, value in named])

    @property
    def pace(self) -> Pace:
        """How the allowance is spent now: as configured, or smooth after unexplained refusals."""
        return Pace.SMOOTH if self._ledger.unexplained else self.limits.pace

    @property
    def unexplained(self) -> int:
        """How often refusals that the mirror cannot explain have shown a wall."""
        return self._ledger.unexplained

    @property
    def in_flight(self) -> int:
        """Calls in the air, of all processes that share the state."""
        return len(self._ledger.air)

    def limit(self, now: float, kind: QuotaKind) -> int | None:
        """What is kept now: configured or adopted, the share of it, cut by what was learnt."""
        return self._ledger.limit(now, kind)

    def use(self, now: float) -> QuotaUse:
        """What counts against the limits now."""
        return use_of(self._ledger, now)

    def waits_for(self, now: float, texts: int, tokens: int) -> Waiting | None:
        """What a call of that size waits for now."""
        return waits_for(self._ledger, now, (self._requests(texts), tokens), self.pace)

    def day_spent(self, now: float) -> bool:
        """Whether nothing is left of the day. Calls in the air give theirs back if they fail."""
        self._ledger.refresh(now)
        return self._day_left(now) < 1

    def day_resets_at(self, now: float) -> float:
        """When the day's quota is back, in epoch seconds: midnight in California and a second."""
        self._ledger.refresh(now)
        return self._ledger.day.ends_at

    def to_bytes(self) -> bytes:
        """The state for a shared file; limits and margins are no part of it."""
        return self._ledger.to_bytes()

    def load(self, data: bytes) -> bool:
        """Take over the state of `to_bytes`; False, and a new beginning, where `data` is none."""
        return self._ledger.load(data)

    @classmethod
    def from_bytes(
        cls, data: bytes, limits: QuotaLimits, margin_s: float = MARGIN_S
    ) -> QuotaMirror:
        """A mirror with the state of `to_bytes`, or a new one where `data` is none."""
        mirror = cls(limits, margin_s)
        mirror.load(data)
        return mirror

    def _requests(self, texts: int) -> int:
        return 1 if self.limits.rpm_counts is RpmCounts.CALLS else texts

    def _day_left(self, now: float) -> float:
        return self._ledger.day.left(self._ledger.limit(now, QuotaKind.RPD))

    def _tokens_ran_over(self, now: float, kind: QuotaKind | None, call: Call) -> bool:
        """Whether estimates that were a quarter too low explain the refusal."""
        book = self._ledger
        tpm = book.limit(now, QuotaKind.TPM)
        if tpm is None or kind is QuotaKind.RPM:
            return False
        in_air = book.air_tokens + call[2]
        return book.window.tokens + 1.25 * in_air > tpm

    def _strike(self, now: float, kind: QuotaKind | None, wait_s: float) -> bool:
        """Learn from a refusal of a limit, or of the one that was closest; True if it was cut."""
        book = self._ledger
        used = {QuotaKind.RPM: book.window.requests, QuotaKind.TPM: book.window.tokens}
        full = {k: used[k] / limit for k in used if (limit := book.limit(now, k))}
        at = kind if kind in full else max(full, key=full.__getitem__, default=None)
        if at is None:
            return False
        limit = book.limit(now, at) or 1
        return book.learnt[at].strike(now, limit, used[at], book.passes, wait_s)


def _filling(rpm: int, sizes: range) -> int:
    """Return the least size of which full calls leave 1 % of a window at most, or the least."""
    return min(sizes, key=lambda size: max(rpm % size, rpm // 100))
