"""What the mirror of a quota remembers: calls in the air and counted, the day, what was learnt."""

from __future__ import annotations

import array
import itertools
import math
import zlib
from collections.abc import Iterable, Iterator

from bulkembed.schemas.quota import QuotaKind, QuotaLimits
from bulkembed.transforms.core.backoff import PauseState
from bulkembed.transforms.core.quota_counters import WINDOW_S, DayCounter, SlidingWindow
from bulkembed.transforms.core.quota_learning import LEARNT, LearntLimit

MAGIC = b"BEQ\x03"
_FRONT = len(MAGIC) + 4
_WORD = 8
_LENGTHS = 3 * _WORD


def pack(head: Iterable[float], in_flight: Iterable[float], window: array.array[float]) -> bytes:
    """The three runs of numbers as bytes."""
    first, second = array.array("d", head), array.array("d", in_flight)
    numbers = array.array("d", (len(first), len(second), len(window)))
    body = b"".join((numbers.tobytes(), first.tobytes(), second.tobytes(), window.tobytes()))
    return MAGIC + zlib.crc32(body).to_bytes(4, "little") + body


def unpack(
    data: bytes, head: int
) -> tuple[array.array[float], array.array[float], array.array[float]] | None:
    """What `pack` was given; None where the bytes are no state with `head` numbers at the front."""
    body = memoryview(data)[_FRONT:]
    if data[:4] != MAGIC or len(body) < _LENGTHS:
        return None
    first, second, third = array.array("d", body[:_LENGTHS].tobytes())
    sound = first == head and second % 4 == 0 and third % 3 == 0
    size = _LENGTHS + _WORD * (first + second + third)
    if not sound or not size <= len(body):
        return None
    body = body[: int(size)]
    if zlib.crc32(body) != int.from_bytes(data[4:_FRONT], "little"):
        return None
    numbers = array.array("d", body[_LENGTHS:].tobytes())
    at = head + int(second)
    return numbers[:head], numbers[head:at], numbers[at:]


FORGET_S = 3600.0
"""Adopted limits are tried again after so long: the quota may have been raised."""
IDLE_S = 120.0
"""After so long without any use, what was learnt about the service is forgotten."""
_NEVER = -math.inf

Call = tuple[float, int, int]
"""When it was sent, its requests, its tokens as estimated."""


class QuotaLedger:
    """The state behind `QuotaMirror`, and its bytes. Times are seconds of a wall clock."""

    def __init__(self, limits: QuotaLimits, margin_s: float, call_timeout_s: float) -> None:
        self.limits = limits
        self.margin_s = margin_s
        self.call_timeout_s = call_timeout_s
        self.clear()

    def clear(self) -> None:
        """Begin anew, as if nothing had ever been sent."""
        self.window = SlidingWindow(WINDOW_S + self.margin_s)
        self.day = DayCounter()
        self.pause = PauseState()
        self.air: dict[int, Call] = {}
        self.air_requests = self.air_tokens = 0
        self.next_ticket = 1
        self.smooth_at = self.touched_at = _NEVER
        self._forget()

    def _forget(self) -> None:
        self.learnt = {QuotaKind.RPM: LearntLimit(), QuotaKind.TPM: LearntLimit()}
        self.adopted = dict.fromkeys(QuotaKind, math.inf)
        self.adopted_at = self.began_at = self.incident_at = _NEVER
        self.unexplained = self.passes = 0
        self._set_own()

    def _set_own(self) -> None:
        self._own: dict[QuotaKind, int | None] = {}
        for kind in QuotaKind:
            limit = min(getattr(self.limits, kind) or math.inf, self.adopted[kind])
            self._own[kind] = None if limit == math.inf else self.limits.shared(int(limit))

    def refresh(self, now: float) -> None:
        """Let time pass: what is over leaves, what is old is forgotten."""
        if now < self.touched_at:
            self._clock_went_back(now)
        elif now - max(self.touched_at, self.pause.until) > IDLE_S:
            self._forget()
        elif self.adopted_at != _NEVER and now - self.adopted_at > FORGET_S:
            self.adopted = dict.fromkeys(QuotaKind, math.inf)
            self.adopted_at = _NEVER
            self._set_own()
        self.touched_at = now
        self._expire_air(now)
        self.window.expire(now)
        self.day.roll(now, self.air_requests)

    def _clock_went_back(self, now: float) -> None:
        """Nothing can have happened later than now, whatever the stamps say."""
        self.air = {key: (min(call[0], now), call[1], call[2]) for key, call in self.air.items()}
        self.incident_at = min(self.incident_at, now)
        self.adopted_at = min(self.adopted_at, now)
        self.began_at = min(self.began_at, now)
        self.smooth_at = min(self.smooth_at, now + WINDOW_S)

    def _expire_air(self, now: float) -> None:
        """A call that is in the air for longer than a call may take counts as answered then."""
        while self.air:
            ticket, (sent_at, _, _) = next(iter(self.air.items()))
            over_at = sent_at + self.call_timeout_s
            if over_at > now:
                return
            call = self.land(ticket)
            if call is not None:
                self.window.add(over_at, call[1], call[2])

    def limit(self, now: float, kind: QuotaKind) -> int | None:
        """What holds now: configured or adopted, this host's share of it, and what was learnt."""
        own = self._own[kind]
        if own is None or kind is QuotaKind.RPD:
            return own
        return self.learnt[kind].limit(now, own)

    def adopt(self, now: float, kind: QuotaKind, value: int) -> bool:
        """Keep the project's limit that the service names, where it is lower; True if so."""
        if not 1 <= value < min(getattr(self.limits, kind) or math.inf, self.adopted[kind]):
            return False
        self.adopted[kind] = value
        self.adopted_at = now
        self._set_own()
        return True

    def launch(self, now: float, requests: int, tokens: int) -> int:
        """Count a call as in the air; gives its ticket."""
        ticket = self.next_ticket
        self.next_ticket += 1
        if self.began_at == _NEVER:
            self.began_at = now
        self.air[ticket] = (now, requests, tokens)
        self.air_requests += requests
        self.air_tokens += tokens
        self.day.used += requests
        return ticket

    def passed(self, sent_at: float) -> None:
        """A call was answered that was sent at that time."""
        self.passes += sent_at > self.incident_at

    def land(self, ticket: int) -> Call | None:
        """Take a call out of the air; None if it is not there (any more)."""
        call = self.air.pop(ticket, None)
        if call is not None:
            self.air_requests -= call[1]
            self.air_tokens -= call[2]
        return call

    def _head(self) -> Iterator[float]:
        times = (self.touched_at, self.began_at, self.adopted_at, self.incident_at, self.smooth_at)
        counts = (self.next_ticket, self.unexplained, self.passes)
        learnt = itertools.chain.from_iterable(one.dump() for one in self.learnt.values())
        parts = (self.adopted.values(), self.day.dump(), self.pause.dump(), learnt)
        return itertools.chain(times, counts, *parts)

    def to_bytes(self) -> bytes:
        """The state: some 300 bytes, 32 for each call in the air, 24 for each 50 ms with calls."""
        calls = ((ticket, *call) for ticket, call in self.air.items())
        return pack(self._head(), itertools.chain.from_iterable(calls), self.window.dump())

    def load(self, data: bytes) -> bool:
        """Take the state of `to_bytes`; False, and a new beginning, where `data` is none."""
        parts = unpack(data, _HEAD)
        if parts is None:
            self.clear()
            return False
        head, air, window = parts
        self.touched_at, self.began_at, self.adopted_at, self.incident_at, self.smooth_at = head[:5]
        self.next_ticket, self.unexplained, self.passes = map(int, head[5:8])
        self.adopted = dict(zip(QuotaKind, head[8:11], strict=True))
        self.day.load(head[11:14])
        self.pause.load(head[14:19])
        self.learnt[QuotaKind.RPM].load(head[19 : 19 + LEARNT])
        self.learnt[QuotaKind.TPM].load(head[19 + LEARNT :])
        self._load_air([int(number) for number in air], list(air[1::4]))
        self.window.load(window)
        self._set_own()
        return True

    def _load_air(self, numbers: list[int], sent: list[float]) -> None:
        rows = zip(sent, numbers[2::4], numbers[3::4], strict=True)
        self.air = dict(zip(numbers[::4], rows, strict=True))
        self.air_requests = sum(numbers[2::4])
        self.air_tokens = sum(numbers[3::4])


_HEAD = 19 + 2 * LEARNT
