"""For what a call must wait: the day, the window, an even pace, an answer in the air.

An ask is (requests, tokens). Each function gives seconds, 0.0 where there is nothing to wait for.
"""

from __future__ import annotations

import math

from schemas.quota import QuotaKind
from transforms.core.quota_ledger import QuotaLedger
from transforms.core.quota_window import WINDOW_S

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
