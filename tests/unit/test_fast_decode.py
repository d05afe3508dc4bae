from __future__ import annotations

import gzip
import json
import re
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkembed.schemas.errors import BadAnswer
from bulkembed.transforms.clients.bodies import Inflater
from bulkembed.transforms.clients.body_buffers import KEPT, BodyBuffers, put
from bulkembed.transforms.clients.decoding import (
    Answer,
    decode_answer,
    decode_plainly,
)
from bulkembed.transforms.clients.raw_vectors import take_vectors

NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, -0.0, 1e-320, 1e300, 2**53 + 1, 16777217]),
)
ODD = st.one_of(NUMBERS, st.none(), st.booleans(), st.text(max_size=3), st.lists(NUMBERS))
VALUES = st.one_of(
    st.lists(NUMBERS, min_size=2, max_size=2),
    st.lists(ODD, max_size=3),
    st.none(),
    st.text(max_size=2),
)
EXTRAS = st.dictionaries(
    st.sampled_from(["statistics", "shape", "a[b", "embedding", "truncated"]),
    st.one_of(
        st.fixed_dictionaries({"token_count": ODD, "truncated": st.booleans()}),
        st.fixed_dictionaries({"values": VALUES}),
        st.lists(st.text("[]x", max_size=3), max_size=2),
        ODD,
    ),
    max_size=2,
)
ITEMS = st.one_of(
    st.builds(lambda values, extra: {**extra, "values": values}, VALUES, EXTRAS),
    st.builds(lambda values, extra: {"embedding": {"values": values}, **extra}, VALUES, EXTRAS),
    st.builds(
        lambda values, extra: {"embeddings": {**extra, "values": values}, "more": [1]},
        VALUES,
        EXTRAS,
    ),
    ODD,
)
ANSWERS = st.dictionaries(
    st.sampled_from(["embeddings", "predictions", "embedding", "usageMetadata", "x["]),
    st.one_of(
        st.lists(ITEMS, min_size=2, max_size=2),
        st.fixed_dictionaries({"promptTokenCount": ODD, "promptTokensDetails": st.lists(ODD)}),
        ITEMS,
    ),
    min_size=1,
    max_size=3,
)


SINGLES = st.dictionaries(
    st.sampled_from(["embedding", "embeddings", "truncated", "usageMetadata"]),
    st.one_of(ITEMS, st.lists(ITEMS, max_size=1)),
    min_size=1,
    max_size=2,
)


def outcome(decode: Any, body: bytes, dim: int | None, texts: int = 2) -> Any:
    try:
        answer: Answer = decode(body, texts, dim)
    except BadAnswer as error:
        return "error", error.code
    return answer.vectors.tobytes(), answer.tokens, answer.text_tokens, answer.truncated


@settings(max_examples=400)
@given(ANSWERS, st.sampled_from([None, 2]), st.sampled_from([None, 2]))
def test_both_paths_give_the_same_bits_and_errors(
    answer: dict[str, Any], dim: int | None, indent: int | None
) -> None:
    body = json.dumps(answer, indent=indent).encode()
    assert outcome(decode_answer, body, dim) == outcome(decode_plainly, body, dim)


@settings(max_examples=400)
@given(SINGLES, st.sampled_from([None, 2]))
def test_both_paths_agree_on_a_single_embedding(answer: dict[str, Any], dim: int | None) -> None:
    body = json.dumps(answer).encode()
    assert outcome(decode_answer, body, dim, 1) == outcome(decode_plainly, body, dim, 1)


def test_an_escaped_bracket_does_not_hide_a_list_inside_a_vector() -> None:
    body = b'{"embeddings":[{"values":[[1],2]},{"values":[3,4]}],"note":"\\u005b"}'
    assert outcome(decode_answer, body, None) == ("error", "values")


@pytest.mark.parametrize("before", [0, 5_000, 20_000, 59_999])
def test_a_list_inside_a_vector_is_found_anywhere_in_a_large_answer(before: int) -> None:
    plain = {"values": [0.5] * 30_000}
    listed = {"values": [*[0.5] * before, [0.5], *[0.5] * (60_000 - before - 1)]}
    body = json.dumps({"embeddings": [plain, plain]}).encode()
    assert take_vectors(body, 2, None) is not None
    body = json.dumps({"embeddings": [{"values": [0.5] * 60_000}, listed]}).encode()
    assert take_vectors(body, 2, None) is None


@given(st.binary(max_size=30), st.integers(0, 60))
def test_both_paths_agree_on_damaged_bytes(noise: bytes, at: int) -> None:
    whole = b'{"embeddings":[{"values":[0.5,1]},{"values":[2,3e-1]}],"usageMetadata":{}}'
    body = whole[:at] + noise + whole[at + len(noise) :]
    assert outcome(decode_answer, body, 2) == outcome(decode_plainly, body, 2)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"embeddings":[{"values":[1,2]},{"values":[3,4]}]}', id="batch"),
        pytest.param(
            b'{"predictions":[{"embeddings":{"values":[1,2]}},{"embeddings":{"values":[3,4]}}]}',
            id="predict",
        ),
        pytest.param(
            b'{"embeddings":[{"values":[1,2]},{"values":[3,4]}],'
            b'"usageMetadata":{"promptTokensDetails":[{"modality":"TEXT[]"}]}}',
            id="details",
        ),
    ],
)
def test_usual_answers_take_the_fast_path(body: bytes) -> None:
    taken = take_vectors(body, 2, 2)
    assert taken is not None
    assert taken[0].dtype == np.float32
    assert taken[0].tolist() == [[1, 2], [3, 4]]


def test_a_single_embedding_takes_the_fast_path() -> None:
    taken = take_vectors(b'{"embedding":{"values":[1,2]},"truncated":true}', 1, None)
    assert taken is not None
    assert taken[0].tolist() == [[1, 2]]
    assert taken[1] == {"embedding": {}, "truncated": True}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"embeddings":[{"values":[[1],2]},{"values":[3,4]}]}', id="nested"),
        pytest.param(
            b'{"embeddings":[],"embeddings":[{"values":[1,2]},{"values":[3,4]}]}', id="key-twice"
        ),
        pytest.param(b'{"embeddings":[{"values":[1,2]}]}', id="one-short"),
        pytest.param(
            b'{"predictions":[{"embeddings":{"values":[1,2],"embedding":{}}},'
            b'{"embeddings":{"values":[3,4]}}]}',
            id="predict-in-two-levels",
        ),
    ],
)
def test_unusual_answers_are_left_to_the_plain_path(body: bytes) -> None:
    assert take_vectors(body, 2, 2) is None


def inflated(body: bytes, encoding: str, piece_bytes: int) -> bytes:
    inflater = Inflater(encoding)
    pieces = [body[at : at + piece_bytes] for at in range(0, len(body), piece_bytes)]
    return b"".join([*map(inflater.take, pieces), inflater.rest()])


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", "deflate", "", "identity"])
@pytest.mark.parametrize("piece_bytes", [1, 7, 10_000])
def test_a_body_is_decompressed_by_its_encoding(encoding: str, piece_bytes: int) -> None:
    packed = {"deflate": zlib.compress, "": bytes, "identity": bytes}.get(encoding, gzip.compress)
    assert inflated(packed(b"abc" * 1000), encoding, piece_bytes) == b"abc" * 1000


@pytest.mark.parametrize("piece_bytes", [1, 7, 10_000])
@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        pytest.param(b"abc" * 1000, "gzip", id="proxy-has-decompressed"),
        pytest.param(gzip.compress(b"abc" * 1000), "", id="proxy-has-removed-the-header"),
        pytest.param(gzip.compress(b"abc" * 400) + gzip.compress(b"abc" * 600), "gzip", id="two"),
        pytest.param(gzip.compress(b"abc" * 1000) + bytes(9), "gzip", id="zeros-at-the-end"),
    ],
)
def test_a_body_is_read_whatever_the_header_says(
    body: bytes, encoding: str, piece_bytes: int
) -> None:
    assert inflated(body, encoding, piece_bytes) == b"abc" * 1000


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        pytest.param(gzip.compress(b"abc" * 1000)[:-9], "gzip", id="truncated"),
        pytest.param(gzip.compress(b"abc") + gzip.compress(b"abc")[:-1], "gzip", id="second"),
        pytest.param(gzip.compress(b"abc")[:-6] + bytes(6), "gzip", id="checksum"),
        pytest.param(b"no deflate", "deflate", id="no-deflate"),
    ],
)
@pytest.mark.parametrize("piece_bytes", [1, 10])
def test_a_damaged_body_is_a_bad_answer(body: bytes, encoding: str, piece_bytes: int) -> None:
    with pytest.raises(BadAnswer, match="cannot be decompressed"):
        inflated(body, encoding, piece_bytes)


@pytest.mark.parametrize("body", [b"", b"{"])
def test_a_body_without_a_beginning_is_as_it_came(body: bytes) -> None:
    assert inflated(body, "gzip", 1) == body


@given(st.lists(st.lists(st.binary(max_size=40), max_size=5), max_size=4), st.integers(0, 300))
def test_bodies_in_the_same_memory_are_those_that_arrived(
    bodies: list[list[bytes]], expected: int
) -> None:
    buffers = BodyBuffers()
    for pieces in bodies:
        buffer, end = buffers.take(), 0
        for piece in pieces:
            end = put(buffer, end, piece, expected)
        del buffer[end:]
        assert buffer == b"".join(pieces)
        buffers.give_back(buffer)


def test_a_buffer_that_somebody_looks_into_is_not_used_again() -> None:
    buffers = BodyBuffers()
    buffer = buffers.take()
    put(buffer, 0, b"abc")
    view = memoryview(buffer)
    buffers.give_back(buffer)
    put(buffers.take(), 0, b"xyz")
    assert view.tobytes() == b"abc"


def test_no_more_buffers_are_kept_than_bodies_are_received_at_once() -> None:
    buffers = BodyBuffers()
    taken = [buffers.take() for _ in range(3 * KEPT)]
    for number, buffer in enumerate(taken):
        put(buffer, 0, bytes(number + 1))
        buffers.give_back(buffer)
    kept = [buffers.take() for _ in range(3 * KEPT)]
    assert [bool(buffer) for buffer in kept] == [True] * KEPT + [False] * 2 * KEPT


@settings(max_examples=300)
@given(
    st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=2, max_size=2),
    st.lists(st.sampled_from(["", " ", "\n", "\t\r\n ", " " * 70]), min_size=1, max_size=4),
    st.integers(0, 10**6),
)
def test_any_white_space_gives_the_same_bits(
    rows: list[list[float]], spaces: list[str], cut: int
) -> None:
    """Also where the answer is cut, which is an error in both paths."""
    tokens = re.split(r"([\[\]{},:])", json.dumps({"embeddings": [{"values": r} for r in rows]}))
    parts = [one for token in tokens if (one := token.strip())]
    odd = "".join(part + spaces[at % len(spaces)] for at, part in enumerate(parts)).encode()
    plain = "".join(parts).encode()
    assert outcome(decode_answer, odd, 3) == outcome(decode_plainly, plain, 3)
    truncated = odd[: cut % len(odd)]
    assert outcome(decode_answer, truncated, 3) == outcome(decode_plainly, truncated, 3)


@pytest.mark.parametrize(
    "number",
    ["1e-3", "1E+02", "-1.5e-07", "0.1e1", "2", "-0.0", "1e400", "1e-400", "NaN", "Infinity",
     "-Infinity", "01", "+1", ".5", "1.", "0x1", "1_0", "null", '"1"'],
)  # fmt: skip
@pytest.mark.parametrize("space", ["", "\n        "])
def test_numbers_of_any_spelling_are_read_or_rejected_by_both_paths(
    number: str, space: str
) -> None:
    rows = [f'{{"values":[{space}0.25,{space}{number}{space}]}}', '{"values":[1,2]}']
    body = f'{{"embeddings":[{space}{",".join(rows)}{space}]}}'.encode()
    assert outcome(decode_answer, body, 2) == outcome(decode_plainly, body, 2)
