from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bulkembed.schemas.errors import BadAnswer
from bulkembed.transforms.clients.decoding import Answer, decode_answer

ROWS = [[1.0, 2.0], [3.0, -4.0]]


def body(**answer: Any) -> bytes:
    return json.dumps(answer).encode()


def predictions(*statistics: dict[str, Any] | None) -> bytes:
    found = [
        {"embeddings": {"values": row, **({"statistics": one} if one is not None else {})}}
        for row, one in zip(ROWS, statistics, strict=True)
    ]
    return body(predictions=found, metadata={"billableCharacterCount": 9})


SHAPES = {
    "batch": body(embeddings=[{"values": row} for row in ROWS]),
    "vertex-batch": body(embeddings=[{"embedding": {"values": row}} for row in ROWS]),
    "predict": predictions(None, None),
    "pretty": json.dumps({"embeddings": [{"values": row} for row in ROWS]}, indent=4).encode(),
    "more": body(embeddings=[{"values": row, "shape": [2]} for row in ROWS], model="m", x=[]),
    "unicode-and-escapes": b'\n{"a\\"b":"\\u0041\xc3\xa9",' + body(
        embeddings=[{"values": row} for row in ROWS])[1:],
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_each_form_of_answer_gives_the_vectors_in_order(name: str) -> None:
    answer = decode_answer(SHAPES[name], 2, 2)
    assert answer.vectors.dtype == np.float32
    assert answer.vectors.tolist() == ROWS
    assert decode_answer(SHAPES[name], 2, None).vectors.tolist() == ROWS


def test_a_single_embedding_is_a_matrix_of_one_row() -> None:
    answer = decode_answer(
        body(embedding={"values": [1, 2]}, truncated=True, usageMetadata={"promptTokenCount": 3}),
        1,
        2,
    )
    assert answer.vectors.tolist() == [[1.0, 2.0]]
    assert answer.tokens == 3
    assert answer.truncated == (True,)


def test_the_developer_api_counts_tokens_for_the_whole_call() -> None:
    found = [{"values": row} for row in ROWS]
    answer = decode_answer(body(embeddings=found, usageMetadata={"promptTokenCount": 9}), 2, 2)
    assert (answer.tokens, answer.text_tokens, answer.truncated) == (9, None, None)
    for silent in ({}, {"usageMetadata": {}}, {"usageMetadata": None}):
        assert decode_answer(body(embeddings=found, **silent), 2, 2).tokens is None


def test_vertex_counts_tokens_and_reports_truncation_for_each_text() -> None:
    one = {"token_count": 4, "truncated": False}
    other = {"token_count": 5.0, "truncated": True}
    answer = decode_answer(predictions(one, other), 2, 2)
    assert answer.tokens == 9
    assert answer.text_tokens == (4, 5)
    assert answer.truncated == (False, True)


def test_a_count_of_one_text_is_not_the_count_of_the_call() -> None:
    answer = decode_answer(predictions({"token_count": 4, "truncated": False}, {}), 2, 2)
    assert (answer.tokens, answer.text_tokens) == (None, None)
    assert answer.truncated == (False, None)


def embeddings(*rows: Any) -> bytes:
    return body(embeddings=[{"values": row} for row in rows])


BAD = {
    "empty": (b"", "json"),
    "half": (SHAPES["batch"][: len(SHAPES["batch"]) // 2], "json"),
    "html": (b"<html>sign in</html>", "json"),
    "list": (b"[]", "json"),
    "null": (b"null", "json"),
    "no-utf-8": (b'{"a":"\xff"}', "json"),
    "trailing": (SHAPES["batch"] + b"x", "json"),
    "no-embeddings": (b"{}", "count"),
    "null-embeddings": (b'{"embeddings":null}', "count"),
    "one-short": (embeddings(ROWS[0]), "count"),
    "one-more": (embeddings(*ROWS, ROWS[0]), "count"),
    "one-fused": (body(embedding={"values": ROWS[0]}), "count"),
    "item-null": (body(embeddings=[{"values": ROWS[0]}, None]), "values"),
    "no-values": (body(embeddings=[{"values": ROWS[0]}, {}]), "values"),
    "values-null": (embeddings(ROWS[0], None), "values"),
    "values-empty": (embeddings(ROWS[0], []), "values"),
    "number-null": (embeddings(ROWS[0], [1.0, None]), "values"),
    "string": (embeddings(ROWS[0], [1.0, "2.0"]), "values"),
    "words": (embeddings(ROWS[0], ["a", "b"]), "values"),
    "nested": (embeddings(ROWS[0], [[1.0], [2.0]]), "values"),
    "short-vector": (embeddings(ROWS[0], [1.0]), "dim"),
    "long-vector": (embeddings(ROWS[0], [1.0, 2.0, 3.0]), "dim"),
    "nan": (b'{"embeddings":[{"values":[1,2]},{"values":[1,NaN]}]}', "json"),
    "infinity": (b'{"embeddings":[{"values":[1,2]},{"values":[1,Infinity]}]}', "json"),
    "too-large": (b'{"embeddings":[{"values":[1,2]},{"values":[1,1e39]}]}', "not_finite"),
    "endless": (b'{"embeddings":[{"values":[1,2]},{"values":[1,1e999]}]}', "not_finite|json"),
    "zeros": (embeddings(ROWS[0], [0.0, 0.0]), "zeros"),
    "predict-none": (body(predictions=[None, None]), "values"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_an_answer_that_does_not_match_the_request_is_an_error(name: str) -> None:
    data, codes = BAD[name]
    with pytest.raises(BadAnswer) as caught:
        decode_answer(data, 2, 2)
    assert caught.value.code in codes.split("|")


def test_a_single_vector_of_the_wrong_dim_is_an_error() -> None:
    with pytest.raises(BadAnswer, match="768"):
        decode_answer(body(embedding={"values": [1.0] * 767}), 1, 768)


def test_tiny_numbers_are_accepted() -> None:
    assert decode_answer(embeddings([1e-30, 0.0]), 1, 2).vectors[0, 0] == np.float32(1e-30)


@given(
    hnp.arrays(
        np.float32, st.tuples(st.integers(1, 6), st.integers(1, 9)),
        elements=st.floats(-1e3, 1e3, width=32, allow_subnormal=False),
    ).filter(lambda rows: bool((np.abs(rows) > 1e-6).any(axis=1).all())),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_every_printed_float32_is_read_exactly(
    rows: np.ndarray[Any, Any], pretty: bool, python: bool
) -> None:
    answer: Any = {"embeddings": [{"values": row.tolist()} for row in rows], "usageMetadata": {}}
    data = (
        json.dumps(answer, indent=1 if pretty else None).encode()
        if python
        else orjson.dumps(answer, option=orjson.OPT_INDENT_2 if pretty else 0)
    )
    found: Answer = decode_answer(data, len(rows), rows.shape[1])
    assert np.array_equal(found.vectors, rows)


@given(st.binary(max_size=40) | st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["embeddings", "embedding", "values", "predictions", "statistics",
                         "usageMetadata", "promptTokenCount", "token_count", "truncated"]),
        inner, max_size=4,
    ), max_leaves=12,
).map(lambda value: json.dumps(value).encode()), st.integers(1, 3))  # fmt: skip
def test_any_bytes_give_vectors_or_a_bad_answer(data: bytes, texts: int) -> None:
    try:
        answer = decode_answer(data, texts, None)
    except BadAnswer:
        return
    assert len(answer.vectors) == texts
    assert np.isfinite(answer.vectors).all()
