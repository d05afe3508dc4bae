from __future__ import annotations

import json
from typing import Any

import pytest

from bulkembed.schemas.errors import (
    CallError,
    CallRejected,
    Intercepted,
    JobRejected,
    QuotaExceeded,
    Unavailable,
)
from bulkembed.transforms.clients.classification import (
    RULES,
    Reply,
    classify,
    named_cap,
    named_index,
    quota_facts,
)

MINUTE = "EmbedContentRequestsPerMinutePerProjectPerModel-FreeTier"
TOKENS = "EmbedContentInputTokensPerMinutePerProjectPerModel-FreeTier"
DAY = "EmbedContentRequestsPerDayPerUserPerProjectPerModel-FreeTier"


def failure(quota_id: str, value: str = "100") -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [{
            "quotaMetric": "generativelanguage.googleapis.com/embed_content_requests",
            "quotaId": quota_id,
            "quotaDimensions": {"location": "global", "model": "gemini-embedding-1.0"},
            "quotaValue": value,
        }],
    }  # fmt: skip


def retry(delay: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


HELP = {
    "@type": "type.googleapis.com/google.rpc.Help",
    "links": [{"description": "Learn more", "url": "https://ai.google.dev/gemini-api/docs"}],
}
KEY_INFO = {
    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
    "reason": "API_KEY_INVALID",
    "domain": "googleapis.com",
}


@pytest.mark.parametrize(
    ("status", "words", "error", "name"),
    [
        (400, "API key not valid. Please pass a valid API key. API_KEY_INVALID",
         JobRejected, "key"),
        (400, "API key expired. Please renew the API key.", JobRejected, "key"),
        (401, "Request is missing required authentication credential.", JobRejected, "permission"),
        (403, "Method doesn't allow unregistered callers", JobRejected, "permission"),
        (404, "models/embedding-001 is not found for API version v1beta",
         JobRejected, "model_gone"),
        (400, "* EmbedContentRequest.output_dimensionality: 99999 is out", JobRejected, "dim"),
        (400, "Embedding dimension cannot be set for models/embedding-001.", JobRejected, "dim"),
        (400, "Invalid value at 'requests[0].task_type' (TYPE_ENUM)", JobRejected, "task_type"),
        (400, 'Invalid JSON payload received. Unknown name "x"', JobRejected, "request_form"),
        (400, "User location is not supported for the API use.", JobRejected, "location"),
        (400, "* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch",
         CallRejected, "batch_size"),
        (400, "EmbedContentRequest.content contains an empty Part.", CallRejected, "empty_part"),
        (400, "Request payload size exceeds the limit: 4194304 bytes.", CallRejected, "payload"),
        (413, "", CallRejected, "payload"),
        (400, "The input token count exceeds the maximum number of tokens allowed (2048).",
         CallRejected, "too_long"),
        (400, "Request contains an invalid argument.", CallRejected, "refused"),
        (400, "", CallRejected, "refused"),
        (408, "", Unavailable, "service"),
        (500, "An internal error has occurred.", Unavailable, "service"),
        (503, "The model is overloaded. Please try again later.", Unavailable, "service"),
        (504, "Deadline expired before operation could complete.", Unavailable, "service"),
        (529, "", Unavailable, "service"),
        (418, "I'm a teapot", JobRejected, "unexpected"),
        (407, "Proxy Authentication Required", JobRejected, "proxy"),
        (402, "Payment Required", JobRejected, "payment"),
        (404, "The requested URL /v1beta/v1beta/models was not found", JobRejected, "path"),
        (400, "Content refused: 'bring at most 1 bag'", CallRejected, "refused"),
        (400, "Content blocked: 'API key not valid'", CallRejected, "refused"),
        (429, "Quota exceeded for aiplatform.googleapis.com/online_prediction_requests",
         QuotaExceeded, "quota"),
        (429, "Resource has been exhausted (e.g. check quota).", QuotaExceeded, "quota"),
    ],
)  # fmt: skip
def test_an_answer_is_classified_as_job_service_or_call(
    status: int, words: str, error: type[CallError], name: str
) -> None:
    rule = classify(Reply(status, words))
    assert (rule.error, rule.name) == (error, name)


@pytest.mark.parametrize("value", ["0", 0])
def test_a_quota_of_zero_means_no_access(value: object) -> None:
    words = json.dumps([{"violations": [{"quotaId": MINUTE, "quotaValue": value}]}, HELP])
    assert classify(Reply(429, words)).error is JobRejected


@pytest.mark.parametrize("value", ["100", "01000", "10"])
def test_a_quota_above_zero_is_retried(value: str) -> None:
    words = json.dumps([failure(MINUTE, value), retry("1s")])
    assert classify(Reply(429, words)).error is QuotaExceeded


@pytest.mark.parametrize(
    "name", ["key", "permission", "model_gone", "dim", "task_type", "location", "no_quota"]
)
def test_an_error_that_ends_the_job_has_a_cure(name: str) -> None:
    assert all(rule.cure for rule in RULES if rule.name == name)
    assert any(rule.name == name for rule in RULES)


@pytest.mark.parametrize(
    ("words", "index"),
    [
        ("* BatchEmbedContentsRequest.requests[17].content: empty", 17),
        ("Invalid value at 'instances[3].content'", 3),
        ("contents[0] is too long", 0),
        ("at most 100 requests can be in one batch", None),
        ("parts[3] is empty", None),
        ("", None),
    ],
)
def test_the_index_that_the_service_names_is_read(words: str, index: int | None) -> None:
    assert named_index(words) == index


LIMITS = [
    ("250 instance(s) is over the limit of 5 per prediction.", 5),
    ("250 instance(s) is over the limit of 5", 5),
    ("* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch\n", 100),
    ("batch size 250 exceeds the maximum of 5", 5),
    ("Batch size exceeded: got 250, max: 5.", 5),
    ("The number of instances (250) exceeds the limit (5).", 5),
    ("Number of texts must be less than or equal to 5 but was 250", 5),
    ("Instance count must be <= 5, got 250", 5),
    ("Too many instances: 250. The maximum is 16", 16),
    ("Too many texts in one call (250 > 5)", 5),
    ("Expected between 1 and 5 instances, got 250; number of instances is wrong", 5),
    ("gemini-embedding-001 only supports 1 instance, but 250 were given", 1),
    ("Only one instance per request is supported.", 1),
    ("This model supports a single instance per prediction.", 1),
    ("At most five instances per request, model text-embedding-005", 5),
    ("The limit is 5 texts per request (error 200)", 5),
    ("You sent 250 inputs, and this model allows up to 5 per call.", 5),
    ("maximum 5 contents are allowed", 5),
    ("too many instances", None),
    ("The number of contents is too large", None),
    ("Too many contents: 250 of at most 1,000", None),
]
"""Wordings of a call of 250 texts that is too large, and the limit that each names."""


@pytest.mark.parametrize(("words", "cap"), LIMITS)
def test_a_limit_on_texts_is_read_from_many_wordings(words: str, cap: int | None) -> None:
    rule = classify(Reply(400, f"{words} null"))
    assert (rule.error, rule.name) == (CallRejected, "batch_size")
    assert named_cap(words, 250) == cap


@pytest.mark.parametrize(
    ("words", "texts", "cap"),
    [
        ("1,500 instance(s) is over the limit of 1,000", 1500, 1000),
        ("1500 instances: the limit is 1_000", 1500, 1000),
        ("1.500 instances: the limit is 1.000.", 1500, 1000),
        ("7 instance(s) is over the limit of 5", 7, 5),
        ("at most 100 requests can be in one batch", 3, 1),
        ("instances[3] of 10 is over the limit", 10, None),
    ],
)
def test_numbers_of_a_limit_are_read_in_many_forms(words: str, texts: int, cap: int | None) -> None:
    assert named_cap(words, texts) == cap


@pytest.mark.parametrize(
    "words",
    [
        "The input token count exceeds the maximum number of tokens allowed (2048).",
        "Unable to submit request because the input token count is 30000 but model only supports "
        "up to 20000. Reduce the input token count and try again.",
        "Input text is longer than the maximum of 2048 tokens.",
    ],
)
def test_a_limit_on_tokens_is_not_a_limit_on_texts(words: str) -> None:
    assert classify(Reply(400, words)).name == "too_long"


GOOGLE = {
    "CANCELLED": (499, Unavailable),
    "UNKNOWN": (500, Unavailable),
    "INVALID_ARGUMENT": (400, CallRejected),
    "DEADLINE_EXCEEDED": (504, Unavailable),
    "NOT_FOUND": (404, JobRejected),
    "ALREADY_EXISTS": (409, Unavailable),
    "PERMISSION_DENIED": (403, JobRejected),
    "UNAUTHENTICATED": (401, JobRejected),
    "RESOURCE_EXHAUSTED": (429, QuotaExceeded),
    "FAILED_PRECONDITION": (400, JobRejected),
    "ABORTED": (409, Unavailable),
    "OUT_OF_RANGE": (400, CallRejected),
    "UNIMPLEMENTED": (501, JobRejected),
    "INTERNAL": (500, Unavailable),
    "UNAVAILABLE": (503, Unavailable),
    "DATA_LOSS": (500, Unavailable),
}
"""Each code of google.rpc with its HTTP status (google/rpc/code.proto), and its error."""


@pytest.mark.parametrize("code", GOOGLE)
def test_each_google_rpc_code_is_classified_with_its_status_and_without(code: str) -> None:
    status, error = GOOGLE[code]
    assert classify(Reply(status, "words", code)).error is error
    if code not in ("UNKNOWN", "ALREADY_EXISTS"):  # They add nothing to the status.
        assert classify(Reply(460, "words", code)).error is error


@pytest.mark.parametrize("code", GOOGLE)
@pytest.mark.parametrize("status", [401, 403, 404])
def test_401_403_and_404_end_the_job_whatever_the_rpc_code_is(status: int, code: str) -> None:
    assert classify(Reply(status, "words", code)).error is JobRejected


CLASSIFIED: dict[type[CallError], set[int]] = {
    Unavailable: {408, 409, 421, 423, 424, 425, 499, *range(500, 600)} - {501, 511},
    QuotaExceeded: {429},
    CallRejected: {400, 413, 422},
    Intercepted: set(range(100, 400)),
}


@pytest.mark.parametrize("status", range(100, 600))
def test_every_http_status_is_classified_and_unknown_ones_by_their_class(status: int) -> None:
    expected = next((kind for kind, known in CLASSIFIED.items() if status in known), JobRejected)
    rule = classify(Reply(status))
    assert rule.error is expected
    assert bool(rule.cure) is (rule.error in (JobRejected, Intercepted))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (200, Intercepted), (302, Intercepted), (400, Intercepted), (401, Intercepted),
        (403, Intercepted), (418, Intercepted),
        (404, JobRejected), (407, JobRejected), (402, JobRejected),
        (413, CallRejected), (429, QuotaExceeded),
        (408, Unavailable), (499, Unavailable), (500, Unavailable), (502, Unavailable),
        (503, Unavailable), (520, Unavailable),
    ],
)  # fmt: skip
def test_a_page_comes_from_a_proxy_unless_its_status_decides(
    status: int, error: type[CallError]
) -> None:
    assert classify(Reply(status, page=True)).error is error


def test_every_rule_decides_some_answer() -> None:
    taken: set[tuple[int | str, bool]] = set()
    for rule in RULES:
        keys = {(key, page) for key in (*rule.statuses, *rule.codes) for page in (rule.page, True)}
        assert keys - taken, rule
        if rule.pattern is None:
            taken |= keys


def test_a_429_with_all_details_has_delay_limit_and_kind() -> None:
    facts = quota_facts([failure(MINUTE), retry("45.837906927s"), HELP])
    assert facts.delay_s == pytest.approx(45.837906927)
    assert (facts.quota_id, facts.quota_value) == (MINUTE, 100)


def test_a_quota_per_day_takes_precedence_in_any_order() -> None:
    for details in (
        [failure(MINUTE), failure(DAY, "1000")],
        [failure(DAY, "1000"), failure(MINUTE)],
    ):
        facts = quota_facts([*details, retry("3s")])
        assert (facts.quota_id, facts.quota_value, facts.delay_s) == (DAY, 1000, 3.0)


@pytest.mark.parametrize(
    "details",
    [
        None, [], {}, "x", [None, 1, "x"], [{}], [{"violations": None}], [{"violations": [1]}],
        [HELP], [KEY_INFO], [retry("soon")], [{"violations": [{}]}],
    ],
)  # fmt: skip
def test_details_of_another_form_are_ignored(details: object) -> None:
    facts = quota_facts(details)
    assert (facts.delay_s, facts.quota_id, facts.quota_value) == (None, None, None)


@pytest.mark.parametrize(
    ("delay", "seconds"), [("0s", 0.0), ("-1s", 0.0), ("3", 3.0), ("1.5s", 1.5)]
)
def test_a_delay_is_read_in_seconds(delay: str, seconds: float) -> None:
    assert quota_facts([retry(delay)]).delay_s == seconds
