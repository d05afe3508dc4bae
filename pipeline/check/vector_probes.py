"""How many vectors come, in which order, of which dimensions and length, and what is counted."""

from __future__ import annotations

import dataclasses

import numpy as np

from bulkembed.pipeline.check.checked_model import (
    AGAIN,
    SAME,
    TEXTS,
    CheckedModel,
    ProbeResult,
    cosine,
)
from bulkembed.pipeline.check.probe_calls import text_of_probe
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.models import UnitLength

_TOLERANCE = 0.01
"""By how much a unit length may differ from 1."""


def find_count(model: CheckedModel) -> ProbeResult:
    """Find how many vectors a request of several texts gets."""
    vectors = len(model.first().vectors)
    if model.calls.batches_texts is not None:
        model.note(batches_texts=model.calls.batches_texts)
    if model.calls.batches_texts is False:
        return ProbeResult("1 vector a request: several texts are rejected", True)
    return ProbeResult(f"{number_of(vectors, 'vector')} for {number_of(vectors, 'text')}", True)


def find_order(model: CheckedModel) -> ProbeResult:
    """Find whether vectors have the order of the texts: a repeated text shows it."""
    vectors = model.first().vectors
    again = cosine(vectors[0], vectors[AGAIN])
    others = max(cosine(vectors[0], vectors[at]) for at in range(1, len(TEXTS)))
    return ProbeResult(
        f"cosine {again:.4f}; of other texts at most {others:.2f}", again >= SAME > others
    )


def find_sdk_vectors(model: CheckedModel) -> ProbeResult:
    """Find whether google-genai's own arguments give the same vectors, in reverse order."""
    first = model.first().vectors
    order = [0] if model.calls.batches_texts is False else [2, 0]
    texts = [text_of_probe(model.embedding, TEXTS[at]).text for at in order]
    answer = model.calls.send_by_sdk(
        model.model, [[text] for text in texts], task_type=model.embedding.sent_task_type
    ).decoded(model.embedding.out_dim)
    cosines = [cosine(answer.vectors[row], first[at]) for row, at in enumerate(order)]
    return ProbeResult(
        f"{number_of(len(order), 'vector')}, cosine {min(cosines):.4f} or more",
        min(cosines) >= SAME,
    )


def find_default_dim(model: CheckedModel) -> ProbeResult:
    """Find the dimensions of a request that names none."""
    unnamed = dataclasses.replace(model.embedding, dim=None)
    dim = model.first().vectors.shape[1]
    return ProbeResult(f"{dim:,}", dim == unnamed.out_dim)


def find_dims(model: CheckedModel) -> ProbeResult:
    """Find whether shorter vectors are the beginning of the longer one."""
    whole = model.first().vectors[0]
    cosines = {dim: cosine(model.short(dim), whole[:dim]) for dim in model.dims}
    text = ", ".join(f"{dim}: cosine {found:.4f}" for dim, found in cosines.items())
    return ProbeResult(text, min(cosines.values()) >= SAME)


def find_lengths(model: CheckedModel) -> ProbeResult:
    """Find for which dimensions vectors have length 1."""
    vectors = {model.spec.default_dim: model.first().vectors[0]}
    vectors |= {dim: model.short(dim) for dim in model.dims}
    lengths = {dim: float(np.linalg.norm(vector)) for dim, vector in vectors.items()}
    is_unit = {dim: abs(length - 1) <= _TOLERANCE for dim, length in lengths.items()}
    at_default, *shorter = is_unit.values()
    if at_default and (not shorter or all(shorter) or not any(shorter)):
        always = bool(shorter) and all(shorter)
        model.note_model(unit_length=UnitLength.ALWAYS if always else UnitLength.DEFAULT_DIM)
    elif not any(is_unit.values()):
        model.note_model(unit_length=UnitLength.NEVER)
    text = ", ".join(f"{dim}: {length:.3f}" for dim, length in lengths.items())
    return ProbeResult(
        text, all(one == model.spec.gives_unit_length(dim) for dim, one in is_unit.items())
    )


def assumed_lengths(model: CheckedModel) -> str:
    """Return the lengths that the registry expects."""
    every = (model.spec.default_dim, *model.dims)
    return ", ".join(
        f"{dim}: {'1' if model.spec.gives_unit_length(dim) else 'not 1'}" for dim in every
    )


def find_counts(model: CheckedModel) -> ProbeResult:
    """Find whether the tokens of a request are counted."""
    answer = model.first()
    tokens = answer.tokens
    model.note(counts_tokens=tokens is not None)
    if tokens is None:
        return ProbeResult("no count", False)
    return ProbeResult(number_of(tokens, "token"), tokens >= len(answer.vectors))
