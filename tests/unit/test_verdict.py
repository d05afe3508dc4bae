from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.errors import CallError, CallRefused, JobRefused, QuotaExceeded, Unavailable
from transforms.core.verdict import classify, named_cap, named_index, quota_words

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
        (400, "API key not valid. Please pass a valid API key. API_KEY_INVALID", JobRefused, "key"),
        (400, "API key expired. Please renew the API key.", JobRefused, "key"),
        (401, "Request is missing required authentication credential.", JobRefused, "permission"),
        (403, "Method doesn't allow unregistered callers", JobRefused, "permission"),
        (404, "models/embedding-001 is not found for API version v1beta", JobRefused, "model_gone"),
        (400, "* EmbedContentRequest.output_dimensionality: 99999 is out", JobRefused, "dim"),
        (400, "Embedding dimension cannot be set for models/embedding-001.", JobRefused, "dim"),
        (400, "Invalid value at 'requests[0].task_type' (TYPE_ENUM)", JobRefused, "task_type"),
        (400, 'Invalid JSON payload received. Unknown name "x"', JobRefused, "request_form"),
        (400, "User location is not supported for the API use.", JobRefused, "location"),
        (400, "* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch",
         CallRefused, "batch_size"),
        (400, "EmbedContentRequest.content contains an empty Part.", CallRefused, "empty_part"),
        (400, "Request payload size exceeds the limit: 4194304 bytes.", CallRefused, "payload"),
        (413, "", CallRefused, "payload"),
        (400, "The input token count exceeds the maximum number of tokens allowed (2048).",
         CallRefused, "too_long"),
        (400, "Request contains an invalid argument.", CallRefused, "refused"),
        (400, "", CallRefused, "refused"),
        (408, "", Unavailable, "service"),
        (500, "An internal error has occurred.", Unavailable, "service"),
        (502, "<html>Bad Gateway</html>", Unavailable, "service"),
        (503, "The model is overloaded. Please try again later.", Unavailable, "service"),
        (504, "Deadline expired before operation could complete.", Unavailable, "service"),
        (529, "", Unavailable, "service"),
        (418, "I'm a teapot", JobRefused, "unexpected"),
        (407, "Proxy Authentication Required", JobRefused, "unexpected"),
        (400, "Content refused: 'bring at most 1 bag'", CallRefused, "refused"),
        (400, "Content blocked: 'API key not valid'", CallRefused, "refused"),
        (429, "Quota exceeded for aiplatform.googleapis.com/online_prediction_requests",
         QuotaExceeded, "quota"),
        (429, "Resource has been exhausted (e.g. check quota).", QuotaExceeded, "quota"),
    ],
)  # fmt: skip
def test_an_answer_is_about_the_job_the_service_or_the_call(
    status: int, words: str, error: type[CallError], name: str
) -> None:
    row = classify(status, words)
    assert (row.error, row.name) == (error, name)


@pytest.mark.parametrize("value", ["0", 0])
def test_a_quota_of_nought_is_no_access(value: object) -> None:
    words = json.dumps([{"violations": [{"quotaId": MINUTE, "quotaValue": value}]}, HELP])
    assert classify(429, words).error is JobRefused


@pytest.mark.parametrize("value", ["100", "01000", "10"])
def test_a_quota_of_more_than_nought_is_to_be_waited_for(value: str) -> None:
    words = json.dumps([failure(MINUTE, value), retry("1s")])
    assert classify(429, words).error is QuotaExceeded


@pytest.mark.parametrize(
    "name", ["key", "permission", "model_gone", "dim", "task_type", "location", "no_quota"]
)
def test_what_ends_a_job_says_what_to_do_or_where(name: str) -> None:
    from transforms.core.verdict import TABLE

    assert all(row.cure for row in TABLE if row.name == name)
    assert any(row.name == name for row in TABLE)


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
def test_the_text_that_the_service_names_is_found(words: str, index: int | None) -> None:
    assert named_index(words) == index


@pytest.mark.parametrize(
    ("words", "cap"),
    [
        ("at most 100 requests can be in one batch", 100),
        ("batch size 7 exceeds the maximum of 5", 5),
        ("the maximum allowed is 1", 1),
        ("too many instances", None),
    ],
)
def test_the_most_texts_that_the_service_names_are_found(words: str, cap: int | None) -> None:
    assert named_cap(words) == cap


def test_a_429_in_full_tells_delay_limit_and_kind() -> None:
    words = quota_words([failure(MINUTE), retry("45.837906927s"), HELP])
    assert words.delay_s == pytest.approx(45.837906927)
    assert (words.quota_id, words.quota_value) == (MINUTE, 100)


def test_the_days_quota_outweighs_a_minutes_wherever_it_stands() -> None:
    for details in (
        [failure(MINUTE), failure(DAY, "1000")],
        [failure(DAY, "1000"), failure(MINUTE)],
    ):
        words = quota_words([*details, retry("3s")])
        assert (words.quota_id, words.quota_value, words.delay_s) == (DAY, 1000, 3.0)


@pytest.mark.parametrize(
    "details",
    [
        None, [], {}, "x", [None, 1, "x"], [{}], [{"violations": None}], [{"violations": [1]}],
        [HELP], [KEY_INFO], [retry("soon")], [{"violations": [{}]}],
    ],
)  # fmt: skip
def test_details_of_another_form_tell_nothing_and_break_nothing(details: object) -> None:
    words = quota_words(details)
    assert (words.delay_s, words.quota_id, words.quota_value) == (None, None, None)


@pytest.mark.parametrize(
    ("delay", "seconds"), [("0s", 0.0), ("-1s", 0.0), ("3", 3.0), ("1.5s", 1.5)]
)
def test_a_delay_is_read_in_seconds(delay: str, seconds: float) -> None:
    assert quota_words([retry(delay)]).delay_s == seconds
