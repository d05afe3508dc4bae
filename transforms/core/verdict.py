"""What an answer that is no vector is about: the job, the service's state, or the call's make-up.

The table below is read from the top; the first row that fits decides.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from bulkembed.schemas.errors import (
    CallError,
    CallRefused,
    Intercepted,
    JobRefused,
    QuotaExceeded,
    Unavailable,
)

STATUS_DECIDES = frozenset({401, 403, 404})
"""These statuses end the job, whatever google.rpc code a server or a gateway puts beside them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is no vector, as far as it decides what to do.

    `rpc` is the google.rpc code of its JSON ("ABORTED"), "" where it has none.  `words` are its
    message and details as text.  `page`: its body is an HTML page, which no Google API sends.
    """

    status: int
    words: str = ""
    rpc: str = ""
    page: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """One row of the table: which answers it takes, and what they are about.

    An answer fits if its HTTP status or its google.rpc code is listed, its words match, and it is
    a page where `page` says so.  The code does not count where the status alone decides.
    """

    name: str
    statuses: frozenset[int]
    error: type[CallError]
    pattern: re.Pattern[str] | None = None
    cure: str = ""
    codes: frozenset[str] = frozenset()
    page: bool = False
    others: str = ""
    """How a row is labelled that takes the remaining statuses of a class."""
    said: str = ""
    """What the words are about, if the pattern is too long to show."""

    def fits(self, reply: Reply) -> bool:
        """Return whether the row takes an answer."""
        rpc = "" if reply.status in STATUS_DECIDES else reply.rpc
        if reply.status not in self.statuses and rpc not in self.codes:
            return False
        if self.page and not reply.page:
            return False
        return self.pattern is None or self.pattern.search(reply.words) is not None


def _row(
    name: str,
    statuses: tuple[int, ...] | range,
    error: type[CallError],
    pattern: str | None = None,
    cure: str = "",
    *,
    codes: str = "",
    page: bool = False,
    others: str = "",
    said: str = "",
) -> Verdict:
    compiled = re.compile(pattern, re.IGNORECASE) if pattern else None
    listed = frozenset(codes.split())
    return Verdict(name, frozenset(statuses), error, compiled, cure, listed, page, others, said)


_PROXY = "see HTTPS_PROXY, HTTP_PROXY and NO_PROXY, and --base-url"
_ITEMS = r"(request|instance|content|text|input|item|prediction|embedding|prompt)(s|\(s\))?"
_LIMIT = r"(at most|up to|over|above|exceed\w*|limit\w*|max\w*|only|more than|allow\w*|support\w*)"
_NUMBER_WORDS = "single|one|two|three|four|five|six|seven|eight|nine|ten"
_COUNTED = (
    rf"^(?!.*(token|byte|character)).*(\d {_ITEMS}(?!\w)[^.;]*{_LIMIT}"
    rf"|{_LIMIT} ((is|of|a|to) )*(\d+|{_NUMBER_WORDS}) {_ITEMS}(?!\w)"
    rf"|too many {_ITEMS}|(number|count) of {_ITEMS}|{_ITEMS} count|batch size)"
)
_TOO_LONG = r"(input|text|content|token)[^.]*(too long|exceeds?|maximum|longer|supports up to)"

TABLE: tuple[Verdict, ...] = (
    _row("payment", (402,), JobRefused, None,
         "the project's credits are used up or its billing is off; see its billing page"),
    _row("proxy", (407, 511), JobRefused, None,
         "a proxy or network asks for a sign-in; write user and password into HTTPS_PROXY"),
    _row("payload", (413,), CallRefused),
    _row("no_quota", (429,), JobRefused, r'quotaValue"?: "?0\b',
         "the project has no access to this model; choose another one, or ask for quota",
         codes="RESOURCE_EXHAUSTED"),
    _row("quota", (429,), QuotaExceeded, codes="RESOURCE_EXHAUSTED"),
    _row("service", (408, 409, 421, 423, 424, 425, 499, 500, 502, 503, 504), Unavailable,
         codes="ABORTED CANCELLED DATA_LOSS DEADLINE_EXCEEDED INTERNAL UNAVAILABLE"),
    _row("path", (404,), JobRefused, None, "check --base-url and --api-version", page=True),
    _row("path", (404,), JobRefused, r"requested URL", "check --base-url and --api-version"),
    _row("model_gone", (404, 410), JobRefused, None, "check --model, or --base-url",
         codes="NOT_FOUND"),
    _row("page", range(200, 500), Intercepted, None, _PROXY, page=True, others="200 to 499"),
    _row("redirect", range(100, 400), Intercepted, None, _PROXY, others="other below 400"),
    _row("key", (400, 401, 403), JobRefused, r"API_KEY_INVALID|^API key (not valid|expired)",
         "check GOOGLE_API_KEY, GEMINI_API_KEY or --api-key-file"),
    _row("permission", (401, 403), JobRefused, None,
         "check the key's project and its permissions", codes="PERMISSION_DENIED UNAUTHENTICATED"),
    _row("method", (405, 501), JobRefused, None,
         "the server does not offer this method; check --base-url, --api-version and --model",
         codes="UNIMPLEMENTED"),
    _row("precondition", (412,), JobRefused, None,
         "the project lacks billing, or the service is not offered where this runs",
         codes="FAILED_PRECONDITION"),
    _row("location", (400,), JobRefused, r"location is not supported",
         "the service is not offered where this runs"),
    _row("dim", (400,), JobRefused, r"output_?dimensionality|embedding dimension", "check --dim"),
    _row("task_type", (400,), JobRefused, r"task_?type", "check --task-type"),
    _row("request_form", (400,), JobRefused, r"Unknown name \"",
         "the service does not know a field of the request; check --api-version"),
    _row("batch_size", (400,), CallRefused, _COUNTED, said="a limit on the texts of a call"),
    _row("payload", (400,), CallRefused, r"payload size|too large"),
    _row("too_long", (400,), CallRefused, _TOO_LONG),
    _row("empty_part", (400,), CallRefused, r"empty Part"),
    _row("refused", (400, 422), CallRefused, codes="INVALID_ARGUMENT OUT_OF_RANGE"),
    _row("unexpected", range(400, 500), JobRefused, None,
         f"a proxy or another server may answer; {_PROXY}", others="other 4xx"),
    _row("service", range(500, 1000), Unavailable, others="other from 500"),
)  # fmt: skip

SETTINGS = frozenset({"dim", "task_type", "request_form", "location"})
"""Rows about the settings of the whole job, told by words.  Once a call has passed, the settings
are good, and such words are those of a text that the service repeats."""


def classify(reply: Reply) -> Verdict:
    """Return the table's row for an answer; its last rows take what is left of each class."""
    return next((row for row in TABLE if row.fits(reply)), TABLE[-1])


def named_index(words: str) -> int | None:
    """The position of the text that the service names as the culprit, if it names one."""
    found = re.search(r"(?:requests|instances|contents)\[(\d+)\]", words)
    return int(found.group(1)) if found else None


_DIGITS = r"\d{1,3}(?:[,_'.\u00a0\u202f]\d{3})+|\d+"
_NUMBER = re.compile(rf"(?<![\w.\-/\[@])(?:({_DIGITS})|({_NUMBER_WORDS}))(?![\w\-])", re.IGNORECASE)
"""A number that stands by itself: neither part of a name such as gemini-embedding-001, nor an
index."""
_LIMIT_BEFORE = re.compile(rf"{_LIMIT}\W*(\w+\W+){{0,4}}$|[<≤]=?\s*$", re.IGNORECASE)


def named_cap(words: str, texts: int) -> int | None:
    """Return the most texts that a call may hold, where the refusal of a call of `texts` says it.

    Only a number below `texts` can be the cap.  One behind a word about limits counts first.
    """
    found = [(_value(match), words[: match.start()]) for match in _NUMBER.finditer(words)]
    caps = [(value, before) for value, before in found if 1 <= value < texts]
    behind = [value for value, before in caps if _LIMIT_BEFORE.search(before)]
    return max(behind or [value for value, _ in caps], default=None)


def _value(number: re.Match[str]) -> int:
    digits, word = number.groups()
    if word:
        return max(1, _NUMBER_WORDS.split("|").index(word.lower()))
    return int(re.sub(r"\D", "", digits))


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
