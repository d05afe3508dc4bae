"""The limits of a request, the form of its answer, and the words of rejections."""

from __future__ import annotations

import dataclasses
import re

import httpx2

from bulkembed.pipeline.check.checked_model import TEXTS, CheckedModel, ProbeResult, expected
from bulkembed.pipeline.check.probe_calls import ProbeAnswer, plain_text, text_of_probe
from bulkembed.pipeline.check.task_probes import with_field
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.messages import number_of
from bulkembed.transforms.clients.classification import named_cap
from bulkembed.transforms.clients.lean_answers import COMPACT
from bulkembed.transforms.clients.requests import RequestWriter
from bulkembed.transforms.core.content import BODY_MARGIN_BYTES

UNKNOWN_MODEL = "gemini-embedding-bulkembed-check"
"""The name contains `gemini`, so that google-genai calls the same method."""
_INDENTED_LINES = 100
"""A vector over more lines is indented."""
_NAMED_BYTES = re.compile(r"limit\D{0,20}(\d[\d,]*)", re.IGNORECASE)


def find_cap(model: CheckedModel) -> ProbeResult:
    """Find how a request with too many texts is rejected."""
    count = texts_over_cap(model)
    if model.calls.batches_texts is False:
        return ProbeResult("1: several texts are rejected", True)
    contents = [plain_text("a")] * count
    answer = model.calls.send(model.embedding, model.writer().body(contents), count)
    if answer.error is None:
        model.note(max_texts=count)
        return ProbeResult(f"200 for {count} texts", model.calls.service.vertexai)
    model.note_error("batch_size", answer.error)
    cap = named_cap(answer.error.service_message, count)
    found = expected(answer.error, "batch_size", answer.words)
    if found.as_assumed and cap is not None:
        model.note(max_texts=cap)
    is_same = cap is not None and (cap == count - 1 or model.calls.service.vertexai)
    return ProbeResult(found.text, found.as_assumed and is_same)


def texts_over_cap(model: CheckedModel) -> int:
    """Return one more text than a request may have."""
    predicts = model.calls.service.predicts(model.spec)
    return 1 + (model.spec.predict_texts if predicts else model.spec.max_texts)


def find_body_within(model: CheckedModel) -> ProbeResult:
    """Find whether a body as large as a job sends is accepted."""
    size = model.spec.max_body_bytes - BODY_MARGIN_BYTES
    answer = _answer_to_body(model, size)
    if answer.error is None:
        return ProbeResult(f"200 for {size:,} bytes", True)
    return ProbeResult(answer.words, False)


def find_body_over(model: CheckedModel) -> ProbeResult:
    """Find how a larger body is rejected."""
    size = model.spec.max_body_bytes + 1
    answer = _answer_to_body(model, size)
    if answer.error is None:
        model.note(takes_large_bodies=True)
        return ProbeResult(f"200 for {size:,} bytes", False)
    return expected(answer.error, "payload", answer.words)


def _answer_to_body(model: CheckedModel, size: int) -> ProbeAnswer:
    """Send one short text in a body that blanks make so large: it costs no more."""

    def padded(request: httpx2.Request) -> httpx2.Request:
        return _with_body(request, request.read().ljust(size))

    body = model.writer().body([text_of_probe(model.embedding, TEXTS[0])])
    answer = model.calls.send(model.embedding, body, 1, change=padded)
    if answer.error is not None:
        model.note_error("payload", answer.error)
        named = _NAMED_BYTES.search(answer.error.service_message)
        if named is not None:
            model.note(max_body_bytes=int(named[1].replace(",", "")))
    return answer


def _with_body(request: httpx2.Request, content: bytes) -> httpx2.Request:
    headers = {
        name: value
        for name, value in request.headers.items()
        if name not in ("content-length", "transfer-encoding")
    }
    return httpx2.Request(
        request.method, request.url, headers=headers, content=content,
        extensions=request.extensions,
    )  # fmt: skip


def find_pretty_print(model: CheckedModel) -> ProbeResult:
    """Find whether `prettyPrint=false` is accepted, and what it saves."""
    body = model.writer().body([text_of_probe(model.embedding, TEXTS[0])])

    def compact(request: httpx2.Request) -> httpx2.Request:
        request.url = request.url.copy_merge_params(dict([COMPACT]))
        return request

    default = model.calls.send(model.embedding, body, 1)
    answer = model.calls.send(model.embedding, body, 1, change=compact)
    model.note(takes_pretty_print=answer.error is None)
    if answer.error is not None:
        return ProbeResult(answer.words, False)
    obeys = not _is_indented(answer.body)
    model.note(obeys_pretty_print=obeys)
    sizes = f"{len(answer.body):,} bytes, {len(default.body):,} by default"
    return ProbeResult(f"{'compact' if obeys else 'indented'}: {sizes}", obeys)


def find_protobuf(model: CheckedModel) -> ProbeResult:
    """Find whether an answer can be had as protobuf. Nothing depends on it."""
    body = model.writer().body([text_of_probe(model.embedding, TEXTS[0])])

    def as_proto(request: httpx2.Request) -> httpx2.Request:
        request.url = request.url.copy_set_param("alt", "proto")
        return request

    answer = model.calls.send(model.embedding, body, 1, change=as_proto)
    if answer.error is not None:
        return ProbeResult(f"rejected: {answer.words}", True)
    form = "JSON" if answer.body.lstrip().startswith(b"{") else "protobuf"
    return ProbeResult(f"{form}, {len(answer.body):,} bytes", True)


def _is_indented(body: bytes) -> bool:
    return body.count(b"\n") > _INDENTED_LINES


def find_unknown_model(model: CheckedModel) -> ProbeResult:
    """Find how a model that does not exist is rejected."""
    unknown = EmbeddingConfig(model.embedding.service, UNKNOWN_MODEL)
    body = RequestWriter(model.calls.service, unknown).body([plain_text(TEXTS[0])])
    answer = model.calls.send(unknown, body, 1)
    if answer.error is not None:
        model.note_error("model_gone", answer.error, UNKNOWN_MODEL)
    return expected(answer.error, "model_gone", answer.words)


def find_wrong_dim(model: CheckedModel) -> ProbeResult:
    """Find how too many dimensions are rejected."""
    embedding = dataclasses.replace(model.embedding, dim=None)
    body = model.writer().body([text_of_probe(embedding, TEXTS[0])])
    wrong = with_field(body, "outputDimensionality", model.spec.max_dim + 1)
    answer = model.calls.send(embedding, wrong, 1)
    if answer.error is not None:
        model.note_error("dim", answer.error)
        return expected(answer.error, "dim", answer.words)
    dim = answer.decoded(None).vectors.shape[1]
    return ProbeResult(f"200: {number_of(dim, 'dimension')}", False)
