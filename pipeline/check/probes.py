"""All probes: what bulkembed assumes of a service, and what finds out whether it is so."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from bulkembed.pipeline.check import (
    access_probes,
    request_probes,
    task_probes,
    text_probes,
    vector_probes,
)
from bulkembed.pipeline.check.checked_model import SAME, TEXTS, CheckedModel, ProbeResult
from bulkembed.schemas.media import IMAGE_TOKENS
from bulkembed.schemas.models import ModelSpec

_SHORT = 12
"""A bound for the tokens of a short text, with its prefix and title."""
_FIRST = len(TEXTS) + 3
"""How many contents the first request has."""


def _always(_: CheckedModel) -> bool:
    return True


@dataclasses.dataclass(frozen=True)
class Probe:
    """One assumption, and how it is tried out."""

    name: str
    assumed: Callable[[CheckedModel], str]
    find: Callable[[CheckedModel], ProbeResult]
    requests: Callable[[CheckedModel], int] = lambda _: 1
    """How many requests it sends, if all is as assumed."""
    billed_tokens: Callable[[ModelSpec], float] = lambda _: _SHORT
    """A bound for what it costs, in tokens of text."""
    each_model: bool = False
    """Whether it is about a model; if not, the first model that it applies to is enough."""
    applies: Callable[[CheckedModel], bool] = _always


def _on_vertex(model: CheckedModel) -> bool:
    return model.calls.service.vertexai


def _has_field(model: CheckedModel) -> bool:
    return model.spec.prefixes is None


def _no_tokens(_: ModelSpec) -> float:
    return 0


def _image_tokens(spec: ModelSpec) -> float:
    return IMAGE_TOKENS * access_probes.IMAGES * spec.media_factors.image + _SHORT


# fmt: off
PROBES: tuple[Probe, ...] = (
    Probe("vectors", lambda _: "a vector for each text", vector_probes.find_count,
          billed_tokens=lambda _: _FIRST * _SHORT, each_model=True),
    Probe("order", lambda _: "the order of the texts: a repeated text has the same vector",
          vector_probes.find_order, lambda _: 0, _no_tokens, each_model=True),
    Probe("SDK", lambda _: "the same vectors for google-genai's arguments [[text], [text]]",
          vector_probes.find_sdk_vectors, billed_tokens=lambda _: 2 * _SHORT, each_model=True),
    Probe("default dim", lambda m: f"{m.spec.default_dim:,}", vector_probes.find_default_dim,
          lambda _: 0, _no_tokens, each_model=True),
    Probe("dims", lambda m: f"{_listed(m)}: the first numbers of the longer vector",
          vector_probes.find_dims, lambda m: len(m.dims), lambda spec: _SHORT * 3,
          each_model=True, applies=lambda m: bool(m.dims)),
    Probe("lengths", vector_probes.assumed_lengths, vector_probes.find_lengths, lambda _: 0,
          _no_tokens, each_model=True),
    Probe("token count", lambda _: "for the request", vector_probes.find_counts, lambda _: 0,
          _no_tokens, each_model=True),
    Probe("task types", lambda _: "accepted; another one gives another vector",
          task_probes.find_tasks, billed_tokens=lambda _: 8 * _SHORT, each_model=True,
          applies=_has_field),
    Probe("title", lambda _: f"gives another vector (cosine below {SAME})",
          task_probes.find_title, lambda _: 0, _no_tokens, each_model=True),
    Probe("prefix", lambda _: f"gives another vector (cosine below {SAME})",
          task_probes.find_prefix, lambda _: 0, _no_tokens, each_model=True,
          applies=lambda m: not _has_field(m)),
    Probe("task type", lambda _: "ignored, or rejected", task_probes.find_ignored_task,
          each_model=True, applies=lambda m: not _has_field(m)),
    Probe("long text", lambda m: f"cut at {m.spec.max_tokens:,} tokens without a word",
          text_probes.find_cut, billed_tokens=text_probes.long_tokens, each_model=True),
    Probe("long text, uncut", lambda _: "a 400 about its length", text_probes.find_refused_cut,
          billed_tokens=_no_tokens, applies=_on_vertex),
    Probe("blank text", lambda _: "a 400 for the request, about an empty part",
          text_probes.find_blank, billed_tokens=_no_tokens),
    Probe("prettyPrint=false", lambda _: "accepted; the answer is compact",
          request_probes.find_pretty_print, lambda _: 2, lambda _: 2 * _SHORT),
    Probe("alt=proto", lambda _: "protobuf, JSON all the same, or rejected",
          request_probes.find_protobuf, applies=lambda m: not _on_vertex(m)),
    Probe("large body", lambda m: f"accepted below {m.spec.max_body_bytes:,} bytes",
          request_probes.find_body_within),
    Probe("larger body", lambda m: f"a rejection above {m.spec.max_body_bytes:,} bytes",
          request_probes.find_body_over, billed_tokens=_no_tokens),
    Probe("unknown model", lambda _: "a 404", request_probes.find_unknown_model,
          billed_tokens=_no_tokens),
    Probe("wrong dim", lambda _: "a 400 about the dimensions", request_probes.find_wrong_dim,
          billed_tokens=_no_tokens),
    Probe("images", lambda _: f"a vector for each content; {IMAGE_TOKENS} tokens an image",
          access_probes.find_media, billed_tokens=_image_tokens,
          applies=lambda m: m.spec.takes_media),
    Probe("batch mode", lambda _: "open, or closed with a reason", access_probes.find_batch_mode,
          lambda m: 1 if _on_vertex(m) else 2, _no_tokens),
    # The last one: it may use up a small quota.
    Probe("too many texts", lambda m: f"{request_probes.texts_over_cap(m)}: a 400 with the maximum",
          request_probes.find_cap, billed_tokens=_no_tokens),
)
# fmt: on


def _listed(model: CheckedModel) -> str:
    return ", ".join(map(str, model.dims))


def planned(models: list[CheckedModel]) -> list[tuple[Probe, CheckedModel]]:
    """Return the probes to run, each with its model, in order."""
    found = []
    for probe in PROBES:
        applicable = [model for model in models if probe.applies(model)]
        chosen = applicable if probe.each_model else applicable[:1]
        found += [(probe, model) for model in chosen]
    of_models = [pair for pair in found if pair[0].each_model]
    of_service = [pair for pair in found if not pair[0].each_model]
    return sorted(of_models, key=lambda pair: models.index(pair[1])) + of_service
