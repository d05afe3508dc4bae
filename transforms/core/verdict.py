"""What an answer that is no vector is about: the job, the service's state, or the call's make-up.

The table below is read from the top; the first row that fits decides.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from schemas.errors import CallError, CallRefused, JobRefused, QuotaExceeded, Unavailable


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """One row of the table: which answers it takes, and what they are about."""

    name: str
    statuses: frozenset[int]
    error: type[CallError]
    pattern: re.Pattern[str] | None = None
    cure: str = ""

    def fits(self, status: int, words: str) -> bool:
        """Whether an answer with this status and these words belongs here."""
        if status not in self.statuses:
            return False
        return self.pattern is None or self.pattern.search(words) is not None


def _row(
    name: str,
    statuses: tuple[int, ...],
    error: type[CallError],
    pattern: str | None = None,
    cure: str = "",
) -> Verdict:
    compiled = re.compile(pattern, re.IGNORECASE) if pattern else None
    return Verdict(name, frozenset(statuses), error, compiled, cure)


TABLE: tuple[Verdict, ...] = (
    _row("no_quota", (429,), JobRefused, r'quotaValue"?: "?0\b',
         "the project has no access to this model; choose another one, or ask for quota"),
    _row("quota", (429,), QuotaExceeded),
    _row("key", (400, 401, 403), JobRefused, r"API_KEY_INVALID|^API key (not valid|expired)",
         "check GOOGLE_API_KEY, GEMINI_API_KEY or --api-key-file"),
    _row("permission", (401, 403), JobRefused, None,
         "check the key's project and its permissions"),
    _row("model_gone", (404,), JobRefused, None, "check --model"),
    _row("dim", (400,), JobRefused, r"output_?dimensionality|embedding dimension", "check --dim"),
    _row("task_type", (400,), JobRefused, r"task_?type", "check --task-type"),
    _row("request_form", (400,), JobRefused, r"Unknown name \"",
         "the service does not know a field of the request; check --api-version"),
    _row("location", (400,), JobRefused, r"location is not supported",
         "the service is not offered where this runs"),
    _row("payload", (400, 413), CallRefused, r"payload size|too large"),
    _row("payload", (413,), CallRefused),
    _row("batch_size", (400,), CallRefused,
         r"at most \d+ (request|instance|content|text)s|batch size|too many (instance|request)s"),
    _row("too_long", (400,), CallRefused,
         r"(input|text|content|token)[^.]*(too long|exceeds?|maximum|longer)"),
    _row("empty_part", (400,), CallRefused, r"empty Part"),
    _row("refused", (400, 422), CallRefused),
    _row("service", (408, 425, 500, 501, 502, 503, 504), Unavailable),
)  # fmt: skip

UNEXPECTED = _row(
    "unexpected",
    (),
    JobRefused,
    None,
    "a proxy or another server may stand between; see --base-url",
)
"""Any status below 500 that the table does not list: no row is to blame for it."""

SETTINGS = frozenset({"dim", "task_type", "request_form", "location"})
"""Rows about the settings of the whole job.  Once a call has passed, the settings are good, and
such words are those of a text that the service repeats."""


def classify(status: int, words: str) -> Verdict:
    """The table's row for an answer.

    An unlisted status from 500 up is the service's state, one below is `UNEXPECTED`.  `words`
    are the message and the details of the answer, as text.
    """
    for verdict in TABLE:
        if verdict.fits(status, words):
            return verdict
    if status >= 500:
        return _row("service", (status,), Unavailable)
    return UNEXPECTED


def named_index(words: str) -> int | None:
    """The position of the text that the service names as the culprit, if it names one."""
    found = re.search(r"(?:requests|instances|contents)\[(\d+)\]", words)
    return int(found.group(1)) if found else None


def named_cap(words: str) -> int | None:
    """The most texts a call may hold, where a refusal tells it."""
    found = re.search(
        r"at most (\d+) (?:request|instance|content|text)s|maximum (?:of|is|allowed is) (\d+)",
        words,
    )
    return int(next(group for group in found.groups() if group)) if found else None


@dataclasses.dataclass(frozen=True, slots=True)
class QuotaWords:
    """What a 429 says: each None where it is silent.  `delay_s` is the server's RetryInfo."""

    delay_s: float | None = None
    quota_id: str | None = None
    quota_value: int | None = None


def quota_words(details: object) -> QuotaWords:
    """Reads the `details` of a 429; anything of another form is passed over.

    Where several violations are named, the day's outweighs a minute's.
    """
    delay_s = quota_id = quota_value = None
    for detail in details if isinstance(details, list) else []:
        if not isinstance(detail, Mapping):
            continue
        if "retryDelay" in detail:
            delay_s = _seconds(detail["retryDelay"])
        for violation in _violations(detail):
            found = str(violation.get("quotaId") or violation.get("quotaMetric") or "") or None
            if quota_id is None or "PerDay" in (found or ""):
                quota_id, quota_value = found, _whole(violation.get("quotaValue"))
    return QuotaWords(delay_s, quota_id, quota_value)


def _violations(detail: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = detail.get("violations")
    return [v for v in found if isinstance(v, Mapping)] if isinstance(found, list) else []


def _seconds(text: object) -> float | None:
    try:
        return max(0.0, float(str(text).removesuffix("s")))
    except ValueError:
        return None


def _whole(text: object) -> int | None:
    return int(text) if isinstance(text, int | str) and str(text).isdigit() else None
