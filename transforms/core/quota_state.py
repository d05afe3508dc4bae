"""What the quota mirror remembers: calls in flight, the last minute, the day, learned limits."""

from __future__ import annotations

import array
import datetime
import itertools
import math
import zlib
import zoneinfo
from collections.abc import Iterable, Iterator, Sequence

from bulkembed.schemas.quota import QuotaKind, QuotaLimits
from bulkembed.transforms.core.backoff import PauseState
from bulkembed.transforms.core.quota_learning import STATE_NUMBERS, LearnedLimit

WINDOW_S = 60.0
MARGIN_S = 0.25
"""Added to the window, for clocks of different speed and windows that move in steps."""
BUCKET_S = 0.05
"""Calls within this time share one entry, stamped with the latest: at most 1,200 entries."""
FORGET_S = 3600.0
"""Adopted limits are dropped after this time: the quota may have been raised."""
IDLE_S = 120.0
"""After this time without use, learned limits are dropped."""
PACIFIC = zoneinfo.ZoneInfo("America/Los_Angeles")
DAY_MARGIN_S = 1.0
"""The new day starts this long after midnight: the two clocks may differ."""
MAGIC = b"BEQ\x03"
"""The first bytes of a state; the last one is the version of the format."""
_PREFIX = len(MAGIC) + 4
_NUMBER = 8
_LENGTHS = 3 * _NUMBER
_ROW = 3
_DAY_BACK_S = 26 * 3600.0
_NEVER = -math.inf

SentCall = tuple[float, int, int]
"""When a call was sent (epoch seconds), its requests, and its estimated tokens."""


class SlidingWindow:
    """Requests and tokens that the service may still count, stamped at the latest moment.

    An entry leaves `span_s` seconds after its stamp. A stamp in the future (the clock was set back)
    becomes the present: nothing can have been counted later than that.
    """

    __slots__ = ("_rows", "requests", "span_s", "tokens")

    def __init__(self, span_s: float = WINDOW_S) -> None:
        self.span_s = span_s
        self.requests = 0
        self.tokens = 0
        self._rows = array.array("d")

    def add(self, stamp: float, requests: int, tokens: int) -> None:
        """Count a call; it joins the newest entry if both are in the same BUCKET_S."""
        rows = self._rows
        if rows:
            stamp = max(stamp, rows[-_ROW])
        self.requests += requests
        self.tokens += tokens
        if rows and stamp // BUCKET_S == rows[-_ROW] // BUCKET_S:
            rows[-_ROW] = stamp
            rows[-2] += requests
            rows[-1] += tokens
        else:
            rows.extend((stamp, requests, tokens))

    def expire(self, now: float) -> None:
        """Drop the entries that left the window by `now`."""
        rows = self._rows
        if rows and rows[-_ROW] > now:
            self._clamp(now)
        expired = 0
        while expired < len(rows) and rows[expired] + self.span_s <= now:
            self.requests -= int(rows[expired + 1])
            self.tokens -= int(rows[expired + 2])
            expired += _ROW
        if expired:
            del rows[:expired]

    def _clamp(self, now: float) -> None:
        at = len(self._rows) - _ROW
        while at >= 0 and self._rows[at] > now:
            self._rows[at] = now
            at -= _ROW

    def frees_at(self, requests: int, tokens: int) -> float:
        """Return when so many requests and tokens will have left; inf if it holds fewer."""
        rows = self._rows
        for at in range(0, len(rows), _ROW):
            requests -= int(rows[at + 1])
            tokens -= int(rows[at + 2])
            if requests <= 0 and tokens <= 0:
                return rows[at] + self.span_s
        return math.inf

    def left_by(self, when: float) -> tuple[int, int]:
        """Return how many requests and tokens will have left at that time."""
        rows = self._rows
        requests = tokens = 0
        for at in range(0, len(rows), _ROW):
            if rows[at] + self.span_s > when:
                break
            requests += int(rows[at + 1])
            tokens += int(rows[at + 2])
        return requests, tokens

    def leaving(self, now: float) -> list[tuple[float, int, int]]:
        """Return in how many whole seconds how many requests and tokens leave, earliest first."""
        found: dict[int, list[int]] = {}
        rows = self._rows
        for at in range(0, len(rows), _ROW):
            sums = found.setdefault(math.ceil(rows[at] + self.span_s - now), [0, 0])
            sums[0] += int(rows[at + 1])
            sums[1] += int(rows[at + 2])
        return [(float(at), requests, tokens) for at, (requests, tokens) in found.items()]

    def dump(self) -> array.array[float]:
        """Return the entries (stamp, requests, tokens), flat, oldest first."""
        return self._rows

    def load(self, rows: array.array[float]) -> None:
        """Restore the entries of `dump`."""
        self._rows = rows
        self.requests = int(sum(rows[1::_ROW]))
        self.tokens = int(sum(rows[2::_ROW]))


def next_pacific_midnight(now: float) -> float:
    """Return the first midnight of America/Los_Angeles after `now`, both in epoch seconds.

    This is right for days of 23 and 25 hours: the date is advanced, then converted to UTC.
    """
    today = datetime.datetime.fromtimestamp(now, PACIFIC).date()
    tomorrow = today + datetime.timedelta(days=1)
    midnight = datetime.datetime.combine(tomorrow, datetime.time(), PACIFIC)
    return midnight.timestamp()


class DayCounter:
    """Requests of the Pacific day, including those in flight."""

    __slots__ = ("ends_at", "spent", "used")

    def __init__(self) -> None:
        self.used = 0
        self.spent = False
        self.ends_at = 0.0

    def roll(self, now: float, in_flight: int) -> None:
        """Start a new day where the old one is over.

        Requests in flight at midnight may count in either day, so they count in both. A clock that
        is a day behind the counter (it was set back) starts a new day as well, so that the counter
        cannot block calls for ever.
        """
        if self.ends_at - _DAY_BACK_S <= now < self.ends_at:
            return
        self.ends_at = next_pacific_midnight(now - DAY_MARGIN_S) + DAY_MARGIN_S
        self.used = in_flight
        self.spent = False

    def remaining(self, limit: int | None) -> float:
        """Return the remaining requests of the day: 0 once the service says so, inf if no limit."""
        if self.spent:
            return 0
        return math.inf if limit is None else max(0, limit - self.used)

    def dump(self) -> tuple[float, ...]:
        """Return the state as numbers."""
        return (self.used, self.spent, self.ends_at)

    def load(self, numbers: Sequence[float]) -> None:
        """Restore the state from the numbers of `dump`."""
        self.used, self.spent, self.ends_at = int(numbers[0]), bool(numbers[1]), numbers[2]


def encode_state(
    head: Iterable[float], in_flight: Iterable[float], window: array.array[float]
) -> bytes:
    """Return three sequences of numbers as bytes with a checksum.

    The bytes are MAGIC, a CRC-32 of the rest (4 bytes), the three lengths, and the numbers of the
    three sequences. Lengths and numbers are doubles in the byte order of this machine: the state
    is for one host.
    """
    first, second = array.array("d", head), array.array("d", in_flight)
    lengths = array.array("d", (len(first), len(second), len(window)))
    body = b"".join((lengths.tobytes(), first.tobytes(), second.tobytes(), window.tobytes()))
    return MAGIC + zlib.crc32(body).to_bytes(4, "little") + body


def decode_state(
    data: bytes, head: int
) -> tuple[array.array[float], array.array[float], array.array[float]] | None:
    """Return the arguments of `encode_state`; None if the bytes are not such a state.

    Args:
        data: the bytes; the rest of a longer, older state may follow, and is ignored.
        head: how many numbers the first sequence has.
    """
    body = memoryview(data)[_PREFIX:]
    if data[:4] != MAGIC or len(body) < _LENGTHS:
        return None
    first, second, third = array.array("d", body[:_LENGTHS].tobytes())
    is_plausible = first == head and second % 4 == 0 and third % 3 == 0
    size = _LENGTHS + _NUMBER * (first + second + third)
    if not is_plausible or not size <= len(body):
        return None
    body = body[: int(size)]
    if zlib.crc32(body) != int.from_bytes(data[4:_PREFIX], "little"):
        return None
    numbers = array.array("d", body[_LENGTHS:].tobytes())
    end = head + int(second)
    return numbers[:head], numbers[head:end], numbers[end:]


class QuotaState:
    """The state of a `QuotaMirror`, and its form as bytes. Times are epoch seconds."""

    def __init__(self, limits: QuotaLimits, margin_s: float, call_timeout_s: float) -> None:
        self.limits = limits
        self.margin_s = margin_s
        self.call_timeout_s = call_timeout_s
        self.clear()

    def clear(self) -> None:
        """Start over, as if nothing had ever been sent."""
        self.window = SlidingWindow(WINDOW_S + self.margin_s)
        self.day = DayCounter()
        self.pause = PauseState()
        self.in_flight: dict[int, SentCall] = {}
        self.requests_in_flight = self.tokens_in_flight = 0
        self.next_ticket = 1
        self.smooth_at = self.touched_at = _NEVER
        self._forget()

    def _forget(self) -> None:
        self.learned = {QuotaKind.RPM: LearnedLimit(), QuotaKind.TPM: LearnedLimit()}
        self.adopted = dict.fromkeys(QuotaKind, math.inf)
        self.adopted_at = self.began_at = self.incident_at = _NEVER
        self.unexplained = self.answers_since_incident = 0
        self._update_shares()

    def _update_shares(self) -> None:
        self._shares: dict[QuotaKind, int | None] = {}
        for kind in QuotaKind:
            limit = min(getattr(self.limits, kind) or math.inf, self.adopted[kind])
            self._shares[kind] = None if limit == math.inf else self.limits.shared(int(limit))

    def refresh(self, now: float) -> None:
        """Drop what has expired by `now`."""
        if now < self.touched_at:
            self._handle_clock_set_back(now)
        elif now - max(self.touched_at, self.pause.until) > IDLE_S:
            self._forget()
        elif self.adopted_at != _NEVER and now - self.adopted_at > FORGET_S:
            self.adopted = dict.fromkeys(QuotaKind, math.inf)
            self.adopted_at = _NEVER
            self._update_shares()
        self.touched_at = now
        self._expire_calls(now)
        self.window.expire(now)
        self.day.roll(now, self.requests_in_flight)

    def _handle_clock_set_back(self, now: float) -> None:
        """Move stamps in the future to now: nothing can have happened later than that."""
        self.in_flight = {
            ticket: (min(sent_at, now), requests, tokens)
            for ticket, (sent_at, requests, tokens) in self.in_flight.items()
        }
        self.incident_at = min(self.incident_at, now)
        self.adopted_at = min(self.adopted_at, now)
        self.began_at = min(self.began_at, now)
        self.smooth_at = min(self.smooth_at, now + WINDOW_S)

    def _expire_calls(self, now: float) -> None:
        """Count calls as answered that are in flight longer than a call can take."""
        while self.in_flight:
            ticket, (sent_at, requests, tokens) = next(iter(self.in_flight.items()))
            over_at = sent_at + self.call_timeout_s
            if over_at > now:
                return
            self.remove_call(ticket)
            self.window.add(over_at, requests, tokens)

    def limit(self, now: float, kind: QuotaKind) -> int | None:
        """Return the limit in force: this host's share, lowered by what was learned."""
        share = self._shares[kind]
        if share is None or kind is QuotaKind.RPD:
            return share
        return self.learned[kind].limit(now, share)

    def adopt(self, now: float, kind: QuotaKind, value: int) -> bool:
        """Use the project's limit that the service reports if it is lower; return whether it is."""
        if not 1 <= value < min(getattr(self.limits, kind) or math.inf, self.adopted[kind]):
            return False
        self.adopted[kind] = value
        self.adopted_at = now
        self._update_shares()
        return True

    def add_call(self, now: float, requests: int, tokens: int) -> int:
        """Count a call as in flight; return its ticket."""
        ticket = self.next_ticket
        self.next_ticket += 1
        if self.began_at == _NEVER:
            self.began_at = now
        self.in_flight[ticket] = (now, requests, tokens)
        self.requests_in_flight += requests
        self.tokens_in_flight += tokens
        self.day.used += requests
        return ticket

    def remove_call(self, ticket: int) -> SentCall | None:
        """Count a call as no longer in flight; return it, or None if it is unknown or expired."""
        call = self.in_flight.pop(ticket, None)
        if call is not None:
            self.requests_in_flight -= call[1]
            self.tokens_in_flight -= call[2]
        return call

    def _head(self) -> Iterator[float]:
        times = (self.touched_at, self.began_at, self.adopted_at, self.incident_at, self.smooth_at)
        counts = (self.next_ticket, self.unexplained, self.answers_since_incident)
        learned = itertools.chain.from_iterable(one.dump() for one in self.learned.values())
        parts = (self.adopted.values(), self.day.dump(), self.pause.dump(), learned)
        return itertools.chain(times, counts, *parts)

    def to_bytes(self) -> bytes:
        """Return the state: about 300 bytes, 32 for each call in flight, 24 for each entry."""
        calls = ((ticket, *call) for ticket, call in self.in_flight.items())
        in_flight = itertools.chain.from_iterable(calls)
        return encode_state(self._head(), in_flight, self.window.dump())

    def load(self, data: bytes) -> bool:
        """Restore the state of `to_bytes`; start over and return False if `data` is not one."""
        parts = decode_state(data, _HEAD)
        if parts is None:
            self.clear()
            return False
        head, in_flight, window = parts
        self.touched_at, self.began_at, self.adopted_at, self.incident_at, self.smooth_at = head[:5]
        self.next_ticket, self.unexplained, self.answers_since_incident = map(int, head[5:8])
        self.adopted = dict(zip(QuotaKind, head[8:11], strict=True))
        self.day.load(head[11:14])
        self.pause.load(head[14:19])
        self.learned[QuotaKind.RPM].load(head[19 : 19 + STATE_NUMBERS])
        self.learned[QuotaKind.TPM].load(head[19 + STATE_NUMBERS :])
        self._load_calls([int(number) for number in in_flight], list(in_flight[1::4]))
        self.window.load(window)
        self._update_shares()
        return True

    def _load_calls(self, numbers: list[int], sent: list[float]) -> None:
        rows = zip(sent, numbers[2::4], numbers[3::4], strict=True)
        self.in_flight = dict(zip(numbers[::4], rows, strict=True))
        self.requests_in_flight = sum(numbers[2::4])
        self.tokens_in_flight = sum(numbers[3::4])


_HEAD = 19 + 2 * STATE_NUMBERS
