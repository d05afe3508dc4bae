"""Texts that a service may cut or reject: too long, or blank."""

from __future__ import annotations

import itertools

from bulkembed.pipeline.check.checked_model import (
    SAME,
    TEXTS,
    CheckedModel,
    ProbeResult,
    cosine,
    expected,
)
from bulkembed.pipeline.check.probe_calls import plain_text, text_of_probe, words_of
from bulkembed.schemas.embedding import LongText
from bulkembed.schemas.errors import CallRejected
from bulkembed.schemas.models import ModelSpec

_WORDS = ("house", "river", "paper", "green", "music", "table", "stone", "light")
_TAILS = ("money bank trade price market stock", "dog cat horse bird fish mouse")
_TAIL_SHARE = 8
"""The differing end of a long text is this part of the model's limit."""


def long_texts(spec: ModelSpec) -> list[str]:
    """Return two texts that differ only beyond the tokens that a model reads.

    Each word is at least one token.
    """
    head = itertools.islice(itertools.cycle(_WORDS), spec.max_tokens)
    start = " ".join(head)
    size = spec.max_tokens // _TAIL_SHARE
    tails = (itertools.islice(itertools.cycle(tail.split()), size) for tail in _TAILS)
    return [f"{start} {' '.join(tail)}" for tail in tails]


def long_tokens(spec: ModelSpec) -> int:
    """Return about how many tokens the long texts have."""
    return 2 * (spec.max_tokens + spec.max_tokens // _TAIL_SHARE)


def find_cut(model: CheckedModel) -> ProbeResult:
    """Find whether a text that is too long is cut."""
    texts = [text_of_probe(model.embedding, text) for text in long_texts(model.spec)]
    try:
        answer = model.calls.embed(model.embedding, texts)
    except CallRejected as error:
        model.note_model(cuts_long=False)
        model.note_error("too_long", error)
        return ProbeResult(words_of(error), False)
    same = cosine(*answer.vectors)
    model.note_model(cuts_long=same >= SAME)
    counted = "" if answer.tokens is None else f"; {answer.tokens:,} tokens counted"
    return ProbeResult(
        f"cosine {same:.4f} of two texts that differ beyond it{counted}", same >= SAME
    )


def find_refused_cut(model: CheckedModel) -> ProbeResult:
    """Find whether Vertex AI rejects a text that is too long if it may not cut it."""
    writer = model.writer(long_text=LongText.STOP)
    text = text_of_probe(model.embedding, long_texts(model.spec)[0])
    answer = model.calls.send(model.embedding, writer.body([text]), 1)
    return expected(answer.error, "too_long", answer.words)


def find_blank(model: CheckedModel) -> ProbeResult:
    """Find whether a blank text fails the whole request."""
    texts = [] if model.calls.service.vertexai else [text_of_probe(model.embedding, TEXTS[0])]
    contents = [*texts, plain_text("")]
    answer = model.calls.send(model.embedding, model.writer().body(contents), len(contents))
    model.note(takes_blank_texts=answer.error is None)
    if answer.error is not None:
        model.note_error("empty_part", answer.error)
    return expected(answer.error, "empty_part", answer.words)
