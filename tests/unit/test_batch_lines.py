from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.transforms.clients.batch_lines import (
    BatchLine,
    LineError,
    decode_line,
    decode_line_plainly,
)
from bulkembed.transforms.clients.raw_vectors import take_vector

HASH = bytes(range(16))
KEY = HASH.hex()
ECHO = {"content": {"parts": [{"text": 'a [list] "quoted" \\ Ä'}]}, "embed_content_config": {}}
VALUES = {"values": [0.5, -2]}

FORMS: dict[str, tuple[dict[str, Any], int | None, bool | None]] = {
    "developer": ({"key": KEY, "response": {"embedding": VALUES, "tokenCount": 4}}, 4, None),
    "count-as-string": (
        {"key": KEY, "response": {"embedding": VALUES, "tokenCount": "4"}}, 4, None,
    ),
    "no-count": ({"key": KEY, "response": {"embedding": VALUES}}, None, None),
    "key-in-metadata": (
        {"metadata": {"key": KEY}, "response": {"embedding": VALUES, "tokenCount": 4}}, 4, None,
    ),
    "key-in-metadata-and-echo": (
        {"metadata": {"key": KEY}, "request": ECHO, "response": {"embedding": VALUES}}, None, None,
    ),
    "embeddings": ({"key": KEY, "response": {"embeddings": [VALUES]}}, None, None),
    "vertex": (
        {"key": KEY, "request": ECHO, "status": "",
         "response": {"tokenCount": "2", "embedding": VALUES}}, 2, None,
    ),
    "vertex-with-any-status": (
        {"key": KEY, "request": ECHO, "status": "OK", "response": {"embedding": VALUES}},
        None, None,
    ),
    "truncated": (
        {"key": KEY, "response": {"embedding": VALUES, "truncated": True, "tokenCount": 9}},
        9, True,
    ),
    "statistics": (
        {"key": KEY, "response": {"embeddings": [
            {**VALUES, "statistics": {"token_count": 3, "truncated": False}}]}}, 3, False,
    ),
    "usage": (
        {"key": KEY, "response": {"embedding": VALUES, "usageMetadata": {"promptTokenCount": 5}}},
        5, None,
    ),
    "empty-error": ({"key": KEY, "error": {}, "response": {"embedding": VALUES}}, None, None),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("dim", [None, 2])
def test_each_published_form_of_a_line_is_read(name: str, dim: int | None) -> None:
    form, tokens, truncated = FORMS[name]
    data = json.dumps(form, ensure_ascii=False).encode()
    assert take_vector(data, dim) is not None, "this form should take the fast path"
    for line in (data, data + b"\n", json.dumps(form).encode(), data + b"\r\n"):
        found = decode_line(line, dim)
        assert found.error is None
        assert found.key == HASH
        assert found.vector is not None
        assert found.vector.dtype == np.float32
        assert found.vector.tolist() == [0.5, -2]
        assert (found.tokens, found.truncated) == (tokens, truncated)


def failed(line: object, dim: int | None = 2) -> tuple[bytes | None, LineError]:
    data = line if isinstance(line, bytes) else json.dumps(line).encode()
    found = decode_line(data, dim)
    assert found.vector is None
    assert found.error is not None
    return found.key, found.error


def status(code: object, message: str = "m", **more: Any) -> dict[str, Any]:
    return {"code": code, "message": message, **more}


ABOUT_THE_ROW = [
    pytest.param(status(400, "bad text"), "refused", id="http"),
    pytest.param(status(3, "bad text"), "refused", id="grpc"),
    pytest.param(status("3", "bad text"), "refused", id="grpc-as-string"),
    pytest.param(status("INVALID_ARGUMENT", "bad text"), "refused", id="name-as-code"),
    pytest.param({"message": "bad text", "status": "INVALID_ARGUMENT"}, "refused", id="no-code"),
    pytest.param({"message": "INVALID_ARGUMENT: bad text"}, "refused", id="in-the-message"),
    pytest.param(status(400, "contains an empty Part."), "empty_part", id="empty"),
    pytest.param(status(400, "The input token count exceeds the maximum"), "too_long", id="long"),
    pytest.param(status(413, "too large"), "payload", id="large"),
    pytest.param("Bad Request", "refused", id="phrase"),
    pytest.param("400 Bad Request. bad text", "refused", id="number"),
    pytest.param("HTTP 400: bad text", "refused", id="http-and-number"),
    pytest.param("INVALID_ARGUMENT: bad text", "refused", id="name"),
    pytest.param(
        'Bad Request: {"error": {"code": 400, "message": "bad text"}}',
        "refused", id="json-in-text",
    ),
]  # fmt: skip
GOES_AGAIN = [
    pytest.param(status(500), "service", 500, id="internal"),
    pytest.param(status(13), "service", 500, id="internal-grpc"),
    pytest.param(status(14), "service", 503, id="unavailable-grpc"),
    pytest.param(status(8), "quota", 429, id="quota-grpc"),
    pytest.param(status(429, "RESOURCE_EXHAUSTED"), "quota", 429, id="quota"),
    pytest.param(status(1), "service", 499, id="cancelled"),
    pytest.param(status(7), "permission", 403, id="permission"),
    pytest.param(status(5), "model_gone", 404, id="model"),
    pytest.param(status(9), "precondition", 400, id="precondition"),
    pytest.param("Internal Server Error", "service", 500, id="phrase"),
    pytest.param("UNAVAILABLE", "service", 503, id="name"),
    pytest.param("Too Many Requests: slow down", "quota", 429, id="too-many"),
    pytest.param("it failed", "unknown", None, id="words"),
    pytest.param(["it failed"], "unknown", None, id="list"),
    pytest.param(status(77), "unknown", None, id="unknown-code"),
    pytest.param(status(True), "unknown", None, id="code-is-no-number"),
]


@pytest.mark.parametrize(("error", "rule"), ABOUT_THE_ROW)
@pytest.mark.parametrize("field", ["error", "status"])
def test_an_error_about_the_row_is_final(error: object, rule: str, field: str) -> None:
    key, found = failed({"key": KEY, "request": ECHO, field: error})
    assert key == HASH
    assert (found.code, found.about_row) == (rule, True)
    assert found.http_status in (400, 413)
    words = error["message"] if isinstance(error, dict) else error
    assert found.message == ("bad text" if '"bad text"' in words else words)


@pytest.mark.parametrize(("error", "rule", "http_status"), GOES_AGAIN)
@pytest.mark.parametrize("field", ["error", "status"])
def test_an_error_about_the_service_goes_again(
    error: object, rule: str, http_status: int | None, field: str
) -> None:
    key, found = failed({"metadata": {"key": KEY}, field: error})
    assert key == HASH
    assert (found.code, found.http_status, found.about_row) == (rule, http_status, False)


def test_an_escaped_bracket_does_not_hide_a_list_inside_a_vector() -> None:
    line = json.dumps({"key": KEY, "request": "@", "response": {"embedding": {"values": [[1], 2]}}})
    assert failed(line.replace("@", "\\u005b").encode())[1].code == "values"


def test_an_error_counts_even_beside_a_vector() -> None:
    line = {"key": KEY, "error": status(500), "response": {"embedding": VALUES}}
    assert failed(line)[1].code == "service"


def test_a_row_that_failed_has_the_dead_code_of_an_online_call() -> None:
    codes = {
        rule: failed({"key": KEY, "error": error.values[0]})[1].dead_code
        for error in ABOUT_THE_ROW
        for rule in [error.values[1]]
    }
    assert codes == {
        "refused": DeadCode.REJECTED,
        "payload": DeadCode.REJECTED,
        "empty_part": DeadCode.BLANK_TEXT,
        "too_long": DeadCode.TOO_LONG,
    }


def test_the_words_of_the_service_are_one_line_of_bounded_length() -> None:
    _, found = failed({"key": KEY, "error": status(400, "a\n b" + "c" * 10_000)})
    assert found.message.startswith("a bcc")
    assert len(found.message) == 1000


def response(**more: Any) -> dict[str, Any]:
    return {"key": KEY, "response": more}


@pytest.mark.parametrize(
    ("line", "code", "key"),
    [
        pytest.param(b"", "json", None, id="empty"),
        pytest.param(b"\n", "json", None, id="newline"),
        pytest.param(json.dumps(response(embedding=VALUES)).encode()[:-9], "json", None, id="half"),
        pytest.param(b'{"key":"\xff"}', "json", None, id="no-utf-8"),
        pytest.param([], "json", None, id="list"),
        pytest.param(None, "json", None, id="null"),
        pytest.param({}, "response", None, id="nothing"),
        pytest.param({"key": KEY}, "response", HASH, id="only-a-key"),
        pytest.param({"key": KEY, "response": None}, "response", HASH, id="null-response"),
        pytest.param({"key": KEY, "response": [VALUES]}, "response", HASH, id="list-response"),
        pytest.param(response(), "count", HASH, id="empty-response"),
        pytest.param(response(embedding=None), "count", HASH, id="null-embedding"),
        pytest.param(response(embeddings=[VALUES, VALUES]), "count", HASH, id="two-vectors"),
        pytest.param(response(embedding={}), "values", HASH, id="no-values"),
        pytest.param(response(embedding={"values": []}), "values", HASH, id="empty-values"),
        pytest.param(response(embedding={"values": [1, None]}), "values", HASH, id="null-number"),
        pytest.param(response(embedding={"values": [1, "2"]}), "values", HASH, id="string"),
        pytest.param(response(embedding={"values": [[1], 2]}), "values", HASH, id="nested"),
        pytest.param(response(embedding={"values": [1]}), "dim", HASH, id="short"),
        pytest.param(response(embedding={"values": [1, 2, 3]}), "dim", HASH, id="long"),
        pytest.param(response(embedding={"values": [0, 0]}), "zeros", HASH, id="zeros"),
        pytest.param(response(embedding={"values": [1, 1e39]}), "not_finite", HASH, id="infinite"),
        pytest.param({"response": {"embedding": VALUES}}, "key", None, id="no-key"),
        pytest.param({"key": 5, "response": {"embedding": VALUES}}, "key", None, id="number-key"),
        pytest.param({"key": "r1", "response": {"embedding": VALUES}}, "key", None, id="foreign"),
        pytest.param(
            {"key": KEY.upper(), "response": {"embedding": VALUES}}, "key", None, id="upper-case"
        ),
        pytest.param({"key": KEY[2:], "response": {"embedding": VALUES}}, "key", None, id="cut"),
    ],
)
def test_a_line_that_cannot_be_used_is_an_error_and_goes_again(
    line: object, code: str, key: bytes | None
) -> None:
    found_key, found = failed(line)
    assert (found_key, found.code, found.about_row) == (key, code, False)
    assert found.message


@pytest.mark.parametrize("count", ["", "x", "-1", "1.5", "9" * 5000, None, True, [], {}])
def test_a_count_that_is_none_is_left_out(count: object) -> None:
    found = decode_line(json.dumps(response(embedding=VALUES, tokenCount=count)).encode(), 2)
    assert found.error is None
    assert found.tokens is None


NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, -0.0, 1e-320, 1e300, 2**53 + 1, 16777217]),
)
ODD = st.one_of(NUMBERS, st.none(), st.booleans(), st.text('[]"\\', max_size=3), st.lists(NUMBERS))
EMBEDDINGS = st.fixed_dictionaries(
    {"values": st.one_of(
        st.lists(NUMBERS, min_size=2, max_size=2), st.lists(ODD, max_size=3), ODD)},
    optional={"statistics": ODD, "embedding": ODD},
)  # fmt: skip
RESPONSES = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            "embedding": st.one_of(EMBEDDINGS, st.fixed_dictionaries({"embedding": EMBEDDINGS})),
            "embeddings": st.one_of(st.lists(EMBEDDINGS, max_size=2), ODD),
            "tokenCount": st.one_of(ODD, st.just("12")),
            "truncated": st.booleans(),
        },
    ),
    ODD,
)
ERRORS = st.one_of(ODD, st.fixed_dictionaries({"code": ODD}, optional={"message": ODD}))
LINES = st.fixed_dictionaries(
    {},
    optional={
        "key": st.one_of(st.just(KEY), ODD),
        "metadata": st.one_of(st.fixed_dictionaries({"key": st.just(KEY)}), ODD),
        "request": st.one_of(st.just(ECHO), ODD),
        "response": RESPONSES,
        "error": ERRORS,
        "status": ERRORS,
    },
)


def outcome(found: BatchLine) -> Any:
    vector = None if found.vector is None else found.vector.tobytes()
    return found.key, vector, found.tokens, found.truncated, found.error


@settings(max_examples=500)
@given(LINES, st.sampled_from([None, 2]), st.booleans())
def test_both_paths_give_the_same_bits_and_errors(
    line: dict[str, Any], dim: int | None, ascii_only: bool
) -> None:
    data = json.dumps(line, ensure_ascii=ascii_only).encode()
    found = decode_line(data, dim)
    assert outcome(found) == outcome(decode_line_plainly(data, dim))
    assert (found.vector is None) == (found.error is not None)


@given(st.binary(max_size=30), st.integers(0, 90))
def test_damaged_bytes_give_a_line_and_never_an_exception(noise: bytes, at: int) -> None:
    whole = json.dumps({"key": KEY, "response": {"embedding": VALUES, "tokenCount": "4"}}).encode()
    data = whole[:at] + noise + whole[at + len(noise) :]
    assert outcome(decode_line(data, 2)) == outcome(decode_line_plainly(data, 2))
