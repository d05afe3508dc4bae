"""What an answer without vectors means: which error it is, and what to do about it.

The rules are read from the top; the first one that matches decides.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import (
    CallError,
    CallRejected,
    Intercepted,
    JobRejected,
    QuotaExceeded,
    Unavailable,
)

STATUS_DECIDES = frozenset({401, 403, 404})
"""These statuses end the job, whatever google.rpc code a server or a gateway adds."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """The parts of an answer without vectors that decide what it means."""

    status: int
    words: str = ""
    """Its message and details as text."""
    rpc: str = ""
    """The google.rpc code of its JSON, such as "ABORTED"; empty if there is none."""
    page: bool = False
    """Whether its body is an HTML page, which no Google API sends."""


@dataclasses.dataclass(frozen=True, slots=True)
class ErrorRule:
    """Which answers mean which error.

    An answer matches if its HTTP status or its google.rpc code is listed, the pattern is found in
    its words, and it is a page if `page` is set. The rpc code is ignored for `STATUS_DECIDES`.
    """

    name: str
    statuses: frozenset[int]
    error: type[CallError]
    pattern: re.Pattern[str] | None = None
    cure: str = ""
    """What to do about it: a sentence."""
    codes: frozenset[str] = frozenset()
    page: bool = False
    status_label: str = ""
    """Replaces the list of statuses in the documentation of a rule for all remaining ones."""
    about: str = ""
    """Replaces a pattern that is too long for the documentation."""

    def matches(self, reply: Reply) -> bool:
        """Return whether the rule covers an answer."""
        rpc = "" if reply.status in STATUS_DECIDES else reply.rpc
        if reply.status not in self.statuses and rpc not in self.codes:
            return False
        if self.page and not reply.page:
            return False
        return self.pattern is None or self.pattern.search(reply.words) is not None


def _rule(
    name: str,
    statuses: tuple[int, ...] | range,
    error: type[CallError],
    pattern: str | None = None,
    cure: str = "",
    *,
    codes: str = "",
    page: bool = False,
    status_label: str = "",
    about: str = "",
) -> ErrorRule:
    compiled = re.compile(pattern, re.IGNORECASE) if pattern else None
    listed = frozenset(codes.split())
    return ErrorRule(
        name, frozenset(statuses), error, compiled, cure, listed, page, status_label, about
    )


_PROXY = "Check HTTPS_PROXY, HTTP_PROXY, NO_PROXY and --base-url."
_BASE_URL = "Check --base-url and --api-version."
_ITEMS = r"(request|instance|content|text|input|item|prediction|embedding|prompt)(s|\(s\))?"
_LIMIT = r"(at most|up to|over|above|exceed\w*|limit\w*|max\w*|only|more than|allow\w*|support\w*)"
_NUMBER_WORDS = "single|one|two|three|four|five|six|seven|eight|nine|ten"
_COUNTED = (
    rf"^(?!.*(token|byte|character)).*(\d {_ITEMS}(?!\w)[^.;]*{_LIMIT}"
    rf"|{_LIMIT} ((is|of|a|to) )*(\d+|{_NUMBER_WORDS}) {_ITEMS}(?!\w)"
    rf"|too many {_ITEMS}|(number|count) of {_ITEMS}|{_ITEMS} count|batch size)"
)
_TOO_LONG = r"(input|text|content|token)[^.]*(too long|exceeds?|maximum|longer|supports up to)"

RULES: tuple[ErrorRule, ...] = (
    _rule("payment", (402,), JobRejected, None,
          "Check the project's billing page: its credits are used up, or billing is off."),
    _rule("proxy", (407, 511), JobRejected, None,
          "A proxy or network requires a sign-in. Write user and password into HTTPS_PROXY."),
    _rule("payload", (413,), CallRejected),
    _rule("no_quota", (429,), JobRejected, r'quotaValue"?: "?0\b',
          "The project has no quota for this model. Choose another model, or request quota.",
          codes="RESOURCE_EXHAUSTED"),
    _rule("quota", (429,), QuotaExceeded, codes="RESOURCE_EXHAUSTED"),
    _rule("service", (408, 409, 421, 423, 424, 425, 499, 500, 502, 503, 504), Unavailable,
          codes="ABORTED CANCELLED DATA_LOSS DEADLINE_EXCEEDED INTERNAL UNAVAILABLE"),
    _rule("path", (404,), JobRejected, None, _BASE_URL, page=True),
    _rule("path", (404,), JobRejected, r"requested URL", _BASE_URL),
    _rule("model_gone", (404, 410), JobRejected, None, "Check --model and --base-url.",
          codes="NOT_FOUND"),
    _rule("page", range(200, 500), Intercepted, None, _PROXY, page=True,
          status_label="200 to 499"),
    _rule("redirect", range(100, 400), Intercepted, None, _PROXY,
          status_label="other below 400"),
    _rule("key", (400, 401, 403), JobRejected, r"API_KEY_INVALID|^API key (not valid|expired)",
          "Check GOOGLE_API_KEY, GEMINI_API_KEY or --api-key-file."),
    _rule("permission", (401, 403), JobRejected, None,
          "Check the key's project and its permissions.",
          codes="PERMISSION_DENIED UNAUTHENTICATED"),
    _rule("method", (405, 501), JobRejected, None,
          "The server does not offer this method. Check --base-url, --api-version and --model.",
          codes="UNIMPLEMENTED"),
    _rule("precondition", (412,), JobRejected, None,
          "Enable billing for the project. If it is on, the service is not offered in this region.",
          codes="FAILED_PRECONDITION"),
    _rule("location", (400,), JobRejected, r"location is not supported",
          "The service is not offered in this region. Run bulkembed in another one."),
    _rule("dim", (400,), JobRejected, r"output_?dimensionality|embedding dimension",
          "Check --dim."),
    _rule("task_type", (400,), JobRejected, r"task_?type", "Check --task-type."),
    _rule("request_form", (400,), JobRejected, r"Unknown name \"",
          "The service does not know a field of the request. Check --api-version."),
    _rule("batch_size", (400,), CallRejected, _COUNTED, about="a limit on the texts of a call"),
    _rule("payload", (400,), CallRejected, r"payload size|too large"),
    _rule("too_long", (400,), CallRejected, _TOO_LONG),
    _rule("empty_part", (400,), CallRejected, r"empty Part|text content is empty"),
    _rule("refused", (400, 422), CallRejected, codes="INVALID_ARGUMENT OUT_OF_RANGE"),
    _rule("unexpected", range(400, 500), JobRejected, None,
          f"A proxy or another server may have answered. {_PROXY}", status_label="other 4xx"),
    _rule("service", range(500, 1000), Unavailable, status_label="other from 500"),
)  # fmt: skip

NO_SUCH_METHOD = (404, 501)
"""The answers of a service that does not offer a method."""
SETTINGS = frozenset({"dim", "task_type", "request_form", "location"})
"""Rules about the settings of the whole job that match by words. After a call has passed, the
settings are known to be good: then such words come from a text that the service repeats."""


def classify(reply: Reply) -> ErrorRule:
    """Return the rule for an answer; the last rules cover the remaining statuses."""
    return next((rule for rule in RULES if rule.matches(reply)), RULES[-1])


_DEAD_CODES = {"too_long": DeadCode.TOO_LONG, "empty_part": DeadCode.BLANK_TEXT}


def dead_code(rule: str) -> DeadCode:
    """Return the dead-letter code of a content that a rule of CallRejected rejects."""
    return _DEAD_CODES.get(rule, DeadCode.REJECTED)


def named_index(words: str) -> int | None:
    """Return the position of the content at fault, if the service names it."""
    found = re.search(r"(?:requests|instances|contents)\[(\d+)\]", words)
    return int(found.group(1)) if found else None


_DIGITS = r"\d{1,3}(?:[,_'.\u00a0\u202f]\d{3})+|\d+"
_NUMBER = re.compile(rf"(?<![\w.\-/\[@])(?:({_DIGITS})|({_NUMBER_WORDS}))(?![\w\-])", re.IGNORECASE)
"""A number by itself: neither a part of a name such as gemini-embedding-001, nor an index."""
_LIMIT_BEFORE = re.compile(rf"{_LIMIT}\W*(\w+\W+){{0,4}}$|[<≤]=?\s*$", re.IGNORECASE)


def named_cap(words: str, texts: int) -> int | None:
    """Return the maximum texts of a call, if the rejection of a call of `texts` says it.

    Only a number below `texts` can be it. Numbers after a word about limits take precedence.
    """
    found = [(_value(match), words[: match.start()]) for match in _NUMBER.finditer(words)]
    caps = [(value, before) for value, before in found if 1 <= value < texts]
    after_limit = [value for value, before in caps if _LIMIT_BEFORE.search(before)]
    return max(after_limit or [value for value, _ in caps], default=None)


def _value(number: re.Match[str]) -> int:
    digits, word = number.groups()
    if word:
        return max(1, _NUMBER_WORDS.split("|").index(word.lower()))
    return int(re.sub(r"\D", "", digits))


@dataclasses.dataclass(frozen=True, slots=True)
class QuotaFacts:
    """The details of a 429; None for those that it does not have."""

    delay_s: float | None = None
    """How long to wait, from the RetryInfo."""
    quota_id: str | None = None
    quota_value: int | None = None


def quota_facts(details: object) -> QuotaFacts:
    """Read the `details` of a 429; anything of another form is ignored.

    If several violations are named, one of the day takes precedence over one of the minute.
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
    return QuotaFacts(delay_s, quota_id, quota_value)


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
