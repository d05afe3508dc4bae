"""The quotas: sliding windows of a minute, and a day that ends at midnight Pacific time."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import time
import zoneinfo
from collections.abc import Callable
from typing import Any

from bulkembed.emulator.api_errors import ApiError
from bulkembed.emulator.settings import EmulatorSettings, QuotaDetails

WINDOW_S = 60.0
_PACIFIC = zoneinfo.ZoneInfo("America/Los_Angeles")
_DAY_DELAY_S = 37.0
"""The service says a few seconds even if the day's quota is spent."""
_HELP = {
    "@type": "type.googleapis.com/google.rpc.Help",
    "links": [
        {
            "description": "Learn more about Gemini API quotas",
            "url": "https://ai.google.dev/gemini-api/docs/rate-limits",
        }
    ],
}


class Clock:
    """Seconds since the epoch, plus an offset that can be set while the server runs.

    Quota windows, the quota's day and outages use it; latencies do not.
    """

    def __init__(self, source: Callable[[], float] = time.time, offset_s: float = 0.0) -> None:
        self._source = source
        self.offset_s = offset_s

    def now(self) -> float:
        """Return the time of this server."""
        return self._source() + self.offset_s


class Window:
    """Amounts of the last 60 s."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._spent: collections.deque[list[float]] = collections.deque()
        self._total = 0.0

    def wait_s(self, amount: float, now: float) -> float:
        """Return the seconds until the amount fits; a whole window if it never will."""
        self._forget(now)
        over = self._total + amount - self.limit
        if over <= 0:
            return 0.0
        for at, spent in self._spent:
            over -= spent
            if over <= 0:
                return at + WINDOW_S - now
        return WINDOW_S

    def add(self, amount: float, now: float) -> list[float]:
        """Count the amount; return the entry that `take_back` needs."""
        entry = [now, amount]
        self._spent.append(entry)
        self._total += amount
        return entry

    def take_back(self, entry: list[float]) -> None:
        """Undo an `add`."""
        self._total -= entry[1]
        entry[1] = 0.0

    def _forget(self, now: float) -> None:
        while self._spent and now - self._spent[0][0] >= WINDOW_S:
            self.take_back(self._spent.popleft())


class Day:
    """The amount of the current day, Pacific time."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._date: dt.date | None = None
        self._spent = 0.0

    def fits(self, amount: float, now: float) -> bool:
        """Return whether the amount fits the day's limit."""
        self._turn(now)
        return self._spent + amount <= self.limit

    def add(self, amount: float, now: float) -> dt.date | None:
        """Count the amount; return the day that `take_back` needs."""
        self._turn(now)
        self._spent += amount
        return self._date

    def take_back(self, amount: float, date: dt.date | None) -> None:
        """Undo an `add` on that day."""
        if date == self._date:
            self._spent -= amount

    def _turn(self, now: float) -> None:
        date = dt.datetime.fromtimestamp(now, _PACIFIC).date()
        if date != self._date:
            self._date, self._spent = date, 0.0


@dataclasses.dataclass(slots=True)
class Admission:
    """A call that the quotas admitted."""

    at: float
    _requests: tuple[Window, list[float]]
    _tokens: tuple[Window, list[float]]
    _day: tuple[Day, float, dt.date | None]

    def cancel(self) -> None:
        """Undo the count of a call that was not answered."""
        self._requests[0].take_back(self._requests[1])
        self._tokens[0].take_back(self._tokens[1])
        self._day[0].take_back(self._day[1], self._day[2])


class Quotas:
    """The three limits of one model in one project; 0: no limit."""

    def __init__(self, model: str, settings: EmulatorSettings, clock: Clock) -> None:
        self._model = model
        self._settings = settings
        self._clock = clock
        self._requests = Window(settings.rpm)
        self._tokens = Window(settings.tpm)
        self._day = Day(settings.rpd)

    def admit(self, texts: int, tokens: int, *, vertex: bool = False) -> Admission:
        """Count a call, or raise the 429 that names the limit it would exceed."""
        now = self._clock.now()
        amount = 1 if self._settings.rpm_counts_calls else texts
        if self._settings.no_access:
            raise self._error("requests", "Minute", 0, WINDOW_S, vertex)
        if self._day.limit and not self._day.fits(amount, now):
            raise self._error("requests", "Day", self._day.limit, _DAY_DELAY_S, vertex)
        for what, window, needed in (
            ("requests", self._requests, amount),
            ("input_token_count", self._tokens, tokens),
        ):
            wait_s = window.wait_s(needed, now) if window.limit else 0.0
            if wait_s > 0:
                raise self._error(what, "Minute", window.limit, wait_s, vertex)
        return Admission(
            now,
            (self._requests, self._requests.add(amount, now)),
            (self._tokens, self._tokens.add(tokens, now)),
            (self._day, amount, self._day.add(amount, now)),
        )

    def _error(self, what: str, period: str, limit: int, wait_s: float, vertex: bool) -> ApiError:
        return quota_error(self._model, self._settings, what, period, limit, wait_s, vertex)


def quota_error(
    model: str, settings: EmulatorSettings, what: str, period: str, limit: int | None,
    wait_s: float, vertex: bool,
) -> ApiError:  # fmt: skip
    """Return a 429 with the details that the settings choose; `limit` None: it names no limit."""
    if vertex:
        return ApiError(
            429,
            "Quota exceeded for aiplatform.googleapis.com/"
            f"online_prediction_requests_per_base_model with base model: {model}. "
            "Please submit a quota increase request. "
            "https://cloud.google.com/vertex-ai/docs/generative-ai/quotas-genai.",
        )
    detail = settings.quota_details
    if detail is QuotaDetails.NONE:
        return ApiError(429, "Resource has been exhausted (e.g. check quota).")
    delay = "0s" if detail is QuotaDetails.ZERO_DELAY else f"{wait_s:.9f}s"
    metric = _metric(what, settings.free_tier)
    violation: dict[str, Any] = {
        "quotaMetric": metric,
        "quotaId": _quota_id(what, period, settings.free_tier),
        "quotaDimensions": {"location": "global", "model": model},
    }
    named = ""
    if limit is not None and detail is not QuotaDetails.NO_VALUE:
        violation["quotaValue"] = str(limit)
        named = f", limit: {limit}, model: {model}"
    return ApiError(
        429,
        "You exceeded your current quota, please check your plan and billing details. "
        "For more information on this error, head to: "
        "https://ai.google.dev/gemini-api/docs/rate-limits. \n"
        f"* Quota exceeded for metric: {metric}{named}\nPlease retry in {delay}.",
        [
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]},
            _HELP,
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
        ],
    )


def _metric(what: str, free_tier: bool) -> str:
    tier = "free_tier" if free_tier else "paid_tier"
    return f"generativelanguage.googleapis.com/embed_content_{tier}_{what}"


def _quota_id(what: str, period: str, free_tier: bool) -> str:
    tier = "FreeTier" if free_tier else "PaidTier"
    if what == "input_token_count":
        return f"EmbedContentInputTokensPer{period}PerProjectPerModel-{tier}"
    if free_tier:
        return f"EmbedContentRequestsPer{period}PerProjectPerModel-{tier}"
    return f"EmbedContentPer{period}PerProjectPerUserPerModel-{tier}"
