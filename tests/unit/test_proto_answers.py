"""Answers in protobuf. Google's own library writes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, message_factory
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkembed.schemas.errors import BadAnswer
from bulkembed.transforms.clients.classification import classify, quota_facts
from bulkembed.transforms.clients.proto_answers import decode_proto, holds_proto, read_status


def response_class() -> Any:
    """Return the class of a BatchEmbedContentsResponse with fields that the client cannot know."""
    file = descriptor_pb2.FileDescriptorProto(name="answer.proto", package="t", syntax="proto3")
    fields = descriptor_pb2.FieldDescriptorProto
    embedding = file.message_type.add(name="ContentEmbedding")
    repeated, single = fields.LABEL_REPEATED, fields.LABEL_OPTIONAL
    embedding.field.add(name="values", number=1, type=fields.TYPE_FLOAT, label=repeated)
    embedding.field.add(name="shape", number=2, type=fields.TYPE_INT32, label=repeated)
    response = file.message_type.add(name="Response")
    response.field.add(
        name="embeddings", number=1, type=fields.TYPE_MESSAGE, label=repeated,
        type_name=".t.ContentEmbedding",
    )  # fmt: skip
    response.field.add(name="usage", number=900, type=fields.TYPE_STRING, label=single)
    response.field.add(name="count", number=3, type=fields.TYPE_INT64, label=single)
    response.field.add(name="ratio", number=4, type=fields.TYPE_DOUBLE, label=single)
    response.field.add(name="part", number=5, type=fields.TYPE_FLOAT, label=single)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Response"))


Response = response_class()
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
NONZERO = st.floats(0.0625, 1000, width=32)
VECTORS = st.integers(1, 40).flatmap(
    lambda dim: st.lists(
        st.tuples(NONZERO, st.lists(NONZERO, min_size=dim - 1, max_size=dim - 1)).map(
            lambda both: [both[0], *both[1]]
        ),
        min_size=1,
        max_size=5,
    )
)


def message(vectors: list[list[float]], **more: Any) -> bytes:
    answer = Response(**more)
    for vector in vectors:
        answer.embeddings.add(values=vector, shape=[len(vector)])
    found: bytes = answer.SerializeToString()
    return found


@given(VECTORS, st.text(max_size=5), st.integers(-(2**63), 2**63 - 1), st.floats())
def test_vectors_are_read_bit_by_bit_and_unknown_fields_are_skipped(
    vectors: list[list[float]], usage: str, count: int, ratio: float
) -> None:
    body = message(vectors, usage=usage, count=count, ratio=ratio, part=0.5)
    for dim in (None, len(vectors[0])):
        answer = decode_proto(body, len(vectors), dim)
        assert answer.vectors.tobytes() == np.array(vectors, np.float32).tobytes()
        assert answer.tokens is None


def test_values_may_come_in_several_pieces() -> None:
    """A message that is sent twice is merged; repeated values are joined."""
    piece = b"\x0a\x04" + np.array([0.5], "<f4").tobytes()
    body = b"\x0a" + bytes([2 * len(piece)]) + piece + piece
    assert decode_proto(body, 1, 2).vectors.tolist() == [[0.5, 0.5]]


def test_the_vectors_are_a_copy_of_the_body() -> None:
    body = bytearray(message([[1.0, 2.0]]))
    answer = decode_proto(body, 1, 2)
    body[:] = bytes(len(body))
    body.extend(b"more")
    assert answer.vectors.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("vectors", "texts", "code"),
    [
        pytest.param([[1.0, 2.0]], 2, "count", id="too-few"),
        pytest.param([[1.0, 2.0]] * 3, 2, "count", id="too-many"),
        pytest.param([], 2, "count", id="none"),
        pytest.param([[1.0, 2.0], [1.0]], 2, "dim", id="another-length"),
        pytest.param([[1.0, 2.0], []], 2, "dim", id="empty"),
        pytest.param([[1.0, 2.0], [1.0, float("nan")]], 2, "not_finite", id="nan"),
        pytest.param([[1.0, 2.0], [1.0, float("inf")]], 2, "not_finite", id="infinite"),
        pytest.param([[1.0, 2.0], [0.0, 0.0]], 2, "zeros", id="zeros"),
    ],
)
def test_an_answer_that_does_not_fit_is_bad(
    vectors: list[list[float]], texts: int, code: str
) -> None:
    with pytest.raises(BadAnswer) as caught:
        decode_proto(message(vectors), texts, 2)
    assert caught.value.code == code


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=60), VECTORS.map(message)), st.integers(0, 400), st.data())
def test_any_bytes_give_vectors_or_a_bad_answer(body: bytes, cut: int, data: Any) -> None:
    texts = data.draw(st.integers(1, 3))
    try:
        answer = decode_proto(body[:cut], texts, None)
    except BadAnswer:
        return
    assert len(answer.vectors) == texts
    assert np.isfinite(answer.vectors).all()


def status_of(code: int, text: str, *details: Any) -> bytes:
    status = status_pb2.Status(code=code, message=text)
    for detail in details:
        status.details.add().Pack(detail)
    found: bytes = status.SerializeToString()
    return found


def test_a_429_keeps_its_delay_and_its_quota() -> None:
    quota = error_details_pb2.QuotaFailure()
    quota.violations.add(quota_id="PerMinute-PaidTier", quota_metric="m", quota_value=3000)
    delay = duration_pb2.Duration(seconds=45, nanos=837_906_927)
    retry = error_details_pb2.RetryInfo(retry_delay=delay)
    help_ = error_details_pb2.Help()
    help_.links.add(url="https://ai.google.dev")
    answer = read_status(429, status_of(8, "Quota\n exceeded", quota, help_, retry))
    assert answer.message == "Quota exceeded"
    assert answer.reply.rpc == "RESOURCE_EXHAUSTED"
    assert classify(answer.reply).name == "quota"
    facts = quota_facts(answer.details)
    assert facts.delay_s == pytest.approx(45.837906927)
    assert (facts.quota_id, facts.quota_value) == ("PerMinute-PaidTier", 3000)


def test_errors_are_classified_as_those_in_json() -> None:
    info = error_details_pb2.ErrorInfo(reason="API_KEY_INVALID", domain="googleapis.com")
    assert classify(read_status(400, status_of(3, "API key", info)).reply).name == "key"
    assert classify(read_status(503, status_of(14, "overloaded")).reply).name == "service"
    assert classify(read_status(404, status_of(5, "no model")).reply).name == "model_gone"


@given(st.binary(max_size=80), st.sampled_from([400, 404, 429, 500]))
def test_any_bytes_of_an_error_are_an_error(body: bytes, status: int) -> None:
    answer = read_status(status, body)
    assert answer.reply.status == status
    quota_facts(answer.details)


def test_protobuf_is_known_by_its_content_type() -> None:
    assert holds_proto("application/x-protobuf; charset=x", b"\n")
    assert holds_proto("Application/Protobuf", b"")
    assert not holds_proto("application/json; charset=UTF-8", b"\n")
    assert not holds_proto("", b"\n")
    assert not holds_proto("application/x-protobuf", b'{"embeddings"')


@given(VECTORS, st.booleans(), st.booleans(), st.integers(0, 2))
def test_the_usual_form_and_others_give_the_same_vectors(
    vectors: list[list[float]], regular: bool, counted: bool, more: int
) -> None:
    answer = Response(**({"usage": "3", "count": 1} if counted else {}))
    for vector in vectors:
        answer.embeddings.add(values=vector, shape=[] if regular else [1])
    body = bytearray(answer.SerializeToString())
    dim = len(vectors[0])
    for known in (dim, None):
        found = decode_proto(body, len(vectors), known).vectors
        assert found.dtype == np.float32
        assert np.array_equal(found, np.array(vectors, np.float32))
    body.append(0)  # Nothing may still look into the buffer.
    for texts in {len(vectors) - 1, len(vectors) + more} - {0, len(vectors)}:
        with pytest.raises(BadAnswer):
            decode_proto(answer.SerializeToString(), texts, dim)


@given(VECTORS, st.data())
def test_a_cut_message_of_the_usual_form_is_a_bad_answer(
    vectors: list[list[float]], data: st.DataObject
) -> None:
    answer = Response()
    for vector in vectors:
        answer.embeddings.add(values=vector)
    body = answer.SerializeToString()
    end = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(BadAnswer):
        decode_proto(body[:end], len(vectors), len(vectors[0]))
