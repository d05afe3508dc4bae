"""What counts against a quota now, and what a call would wait for; nothing is changed."""

from __future__ import annotations

from schemas.live import QuotaUse, Waiting
from schemas.quota import Pace, QuotaKind
from transforms.core import quota_waits
from transforms.core.quota_ledger import QuotaLedger
from transforms.core.quota_waits import Ask


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
    if quota_waits.for_day(book, now, ask[0]) > 0:
        return Waiting.RPD
    if book.pause.wait_s(now) > 0:
        return Waiting.REFUSED
    if quota_waits.for_window(book, now, ask, rpm, None) > 0:
        return Waiting.RPM
    if quota_waits.for_window(book, now, ask, None, tpm) > 0:
        return Waiting.TPM
    if pace is Pace.SMOOTH and book.smooth_at > now:
        return Waiting.PACE
    return Waiting.PROBE if quota_waits.for_answer(book, now, ask, rpm, tpm) > 0 else None
