"""Handle a call that embeds: rules, quota, faults, latency, vectors, and the answer as bytes."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import dataclasses
import time
from collections.abc import Mapping
from typing import Any, NoReturn

from isal import isal_zlib
from starlette.requests import Request
from starlette.responses import Response

from bulkembed.emulator.answer_forms import JSON, AnswerForm, encode_vectors
from bulkembed.emulator.api_errors import ApiError, invalid
from bulkembed.emulator.faults import Faults, error_of
from bulkembed.emulator.media_contents import MeasuredContent, measure
from bulkembed.emulator.media_rules import Modality
from bulkembed.emulator.quotas import Admission, Clock, Quotas, quota_error
from bulkembed.emulator.rules import read_batch, read_predict, read_single
from bulkembed.emulator.settings import EmulatorSettings, Fault, OverLimit, ScriptedError
from bulkembed.emulator.stats import Stats
from bulkembed.emulator.targets import Item, Target
from bulkembed.emulator.word_vectors import Floats, project, words

_READERS = {
    "batchEmbedContents": read_batch,
    "embedContent": read_single,
    "predict": read_predict,
}
EMBED_METHODS = frozenset(_READERS)
_UNEXPLAINED_DELAY_S = 1.0
"""The delay in a 429 that is a fault."""
_WITHOUT_VECTORS = frozenset({
    Fault.TOO_MANY, Fault.INTERNAL, Fault.UNAVAILABLE, Fault.DEADLINE, Fault.RESET, Fault.HANG,
})  # fmt: skip
"""The faults after which a call has no vectors; all others corrupt the answer."""
_GZIP_FROM_BYTES = 500
_GZIP_WINDOW = 31
"""Window bits for a gzip header: 15, and 16 for the header."""
_NAN_MARK = b'"NaN"'
"""Replaced by NaN in the bytes: orjson does not write NaN."""


class ConnectionFault(Exception):
    """Raised for a call that gets no HTTP answer."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


@dataclasses.dataclass
class State:
    """The state of a server between calls.

    `worker` is the one thread that makes vectors: more would contend for the cores that its matrix
    products use already.
    """

    settings: EmulatorSettings
    clock: Clock
    stats: Stats = dataclasses.field(default_factory=Stats)

    def __post_init__(self) -> None:
        self.worker = concurrent.futures.ThreadPoolExecutor(1, "emulator-vectors")
        self._start()

    def _start(self) -> None:
        self.quotas: dict[tuple[str, str], Quotas] = {}
        self.faults = Faults(self.settings, self.clock.now())

    def reset(self) -> None:
        """Reset everything except the clock's offset."""
        in_flight = self.stats.in_flight
        self.stats = Stats(in_flight=in_flight, most_in_flight=in_flight)
        self._start()

    def quotas_of(self, project: str, model: str) -> Quotas:
        """Return the quotas of a project and a model."""
        key = (project, model)
        if key not in self.quotas:
            self.quotas[key] = Quotas(model, self.settings, self.clock)
        return self.quotas[key]


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """A checked call with its tokens, cut at the model's limit."""

    items: list[Item]
    ids: list[list[int]]
    counts: list[int]
    cut: list[bool]
    media: dict[int, MeasuredContent]
    """The contents with media, by their places in `items`; they have no `ids`."""

    def tokens_by_modality(self) -> dict[Modality, int]:
        """Return the tokens of all items; modalities without tokens are left out."""
        found = collections.Counter({Modality.TEXT: sum(self.counts)})
        for content in self.media.values():
            found[Modality.TEXT] -= sum(content.tokens.values())
            found.update(content.tokens)
        return {modality: count for modality, count in sorted(found.items()) if count}


async def answer(state: State, target: Target, project: str, body: object) -> bytes:
    """Return the body of the answer.

    Raises:
        ApiError: the service's error.
        ConnectionFault: the call gets no answer.
    """
    started = time.monotonic()
    loop = asyncio.get_running_loop()
    prepared = await loop.run_in_executor(state.worker, _prepare, target, body)
    state.faults.check_texts([item.sent for item in prepared.items])
    texts, tokens = len(prepared.items), sum(prepared.counts)
    admission = state.quotas_of(project, target.spec.name).admit(
        texts, tokens, vertex=target.vertex
    )
    fault = state.faults.draw(admission.at)
    content = b""
    corrupted = fault if isinstance(fault, Fault) and fault not in _WITHOUT_VECTORS else None
    if fault is corrupted:
        content = await loop.run_in_executor(state.worker, _encode, target, prepared, corrupted)
    await asyncio.sleep(max(0.0, started + state.faults.latency_s() - time.monotonic()))
    if fault is not None and fault is not corrupted:
        _fail(state, target, fault, admission)
    state.stats.paid(
        paid_keys(target, prepared.items),
        texts,
        tokens,
        admission.at,
        prepared.tokens_by_modality(),
    )
    return content


def _fail(
    state: State, target: Target, fault: Fault | ScriptedError, admission: Admission
) -> NoReturn:
    """Raise the error of a fault. A corrupted answer has no error, and uses quota."""
    if not state.settings.charge_failed:
        admission.cancel()
    if fault is Fault.TOO_MANY:
        raise quota_error(
            target.spec.name, state.settings, "requests", "Minute", None,
            _UNEXPLAINED_DELAY_S, target.vertex,
        )  # fmt: skip
    raise failure_of(fault)


def failure_of(fault: Fault | ScriptedError) -> ApiError | ConnectionFault:
    """Return the exception for a fault: an error, or no answer at all."""
    return error_of(fault) or ConnectionFault(Fault(str(fault)))


def _prepare(target: Target, body: object) -> Prepared:
    items = _READERS[target.method](target, body)
    if target.method == "predict":
        _check_predict_tokens(target, items)
    prepared = tokenize(target, items)
    for item, is_long in zip(items, prepared.cut, strict=True):
        if is_long and not may_cut(target, item):
            raise too_long(target)
    return prepared


def tokenize(target: Target, items: list[Item]) -> Prepared:
    """Return the items with their tokens, cut at the model's limit."""
    limit = target.spec.max_tokens
    full = words().token_ids(["" if item.parts else item.sent for item in items], limit)
    cut = [len(ids) > limit for ids in full]
    counts = [min(len(ids), limit) for ids in full]
    media = {row: measure(item.parts, limit) for row, item in enumerate(items) if item.parts}
    for row, content in media.items():
        counts[row], cut[row] = sum(content.tokens.values()), content.is_cut
    return Prepared(items, _embedded_ids(items, full, limit), counts, cut, media)


def too_long(target: Target) -> ApiError:
    """Return the error for a text that may not be cut."""
    limit = target.spec.max_tokens
    message = f"The input token count exceeds the maximum number of tokens allowed ({limit})."
    return invalid(message, "too_long")


def _embedded_ids(items: list[Item], full: list[list[int]], limit: int) -> list[list[int]]:
    """Return the tokens that the vectors are made of: those of the text without its prefix."""
    ids = [one[:limit] for one in full]
    prefixed = [row for row, item in enumerate(items) if item.embedded is not item.sent]
    embedded = words().token_ids([items[row].embedded for row in prefixed], limit)
    for row, one in zip(prefixed, embedded, strict=True):
        ids[row] = one[:limit]
    return ids


def may_cut(target: Target, item: Item) -> bool:
    """Return whether a text over the model's limit is cut."""
    if target.spec.name in target.settings.refuse_long:
        return False
    if target.spec.prefixes is not None:
        return item.truncate and target.settings.long_text is OverLimit.TRUNCATE
    return item.truncate


def _check_predict_tokens(target: Target, items: list[Item]) -> None:
    limit = target.settings.vertex_predict_tokens
    total = words().count([item.sent for item in items])
    if total > limit:
        raise invalid(
            f"Unable to submit request because the input token count is {total} but model only "
            f"supports up to {limit}. Reduce the input token count and try again."
        )


def _encode(target: Target, prepared: Prepared, fault: Fault | None) -> bytes:
    vectors = embed_items(target, prepared)
    characters = sum(len("".join(item.sent.split())) for item in prepared.items)
    body = embed_answer(
        target, vectors, prepared.counts, prepared.cut, fault, prepared.tokens_by_modality(),
        characters,
    )  # fmt: skip
    content = encode_vectors(body, target.form)
    if fault is Fault.NAN and target.form is not AnswerForm.PROTO:
        return content.replace(_NAN_MARK, b"NaN")
    return content[: len(content) // 2] if fault is Fault.BROKEN_JSON else content


def embed_items(target: Target, prepared: Prepared) -> list[Floats]:
    """Return a vector for each item. Items of the same dim are embedded together."""
    vectors: dict[int, Floats] = {}
    for dim in {item.dim for item in prepared.items}:
        rows = [row for row, item in enumerate(prepared.items) if item.dim == dim]
        tasks = [prepared.items[row].task for row in rows]
        means = words().means([prepared.ids[row] for row in rows])
        for place, row in enumerate(rows if prepared.media else ()):
            if row in prepared.media:
                means[place] = prepared.media[row].vector
        found = project(target.spec, dim, tasks, means)
        vectors.update(zip(rows, found, strict=True))
    return [vectors[row] for row in range(len(prepared.items))]


def respond(
    content: bytes,
    request: Request,
    settings: EmulatorSettings,
    code: int = 200,
    media_type: str = JSON,
) -> Response:
    """Return the HTTP answer, gzipped if client and settings allow it."""
    headers = {"vary": "Origin, X-Origin, Referer"}
    if compresses(request, settings) and len(content) >= _GZIP_FROM_BYTES:
        content = isal_zlib.compress(content, level=1, wbits=_GZIP_WINDOW)
        headers["content-encoding"] = "gzip"
    return Response(content, code, headers, media_type=media_type)


def compresses(request: Request, settings: EmulatorSettings) -> bool:
    """Return whether the answer to a request is compressed."""
    return settings.gzip and "gzip" in request.headers.get("accept-encoding", "")


def embed_answer(
    target: Target,
    vectors: list[Floats],
    counts: list[int],
    cut: list[bool],
    fault: Fault | None,
    by_modality: Mapping[Modality, int],
    characters: int = 0,
) -> dict[str, Any]:
    """Return the JSON of an answered call, corrupted as the fault says."""
    rows: list[Any] = list(vectors)
    if fault is Fault.SHORT:
        rows = rows[:-1]
    elif fault is Fault.WRONG_DIM:
        rows = [row[:-1] for row in rows]
    elif fault is Fault.NULL:
        rows[-1] = [None] * len(rows[-1])
    elif fault is Fault.NAN:
        rows[-1] = [*map(float, rows[-1][:-1]), "NaN"]
    if target.method == "predict":
        return _predictions(rows, counts, cut, characters)
    body: dict[str, Any] = {}
    if target.method == "embedContent":
        body["embedding"] = {"values": rows[0]} if rows else None
        if target.vertex:
            body["truncated"] = cut[0]
    else:
        body["embeddings"] = [{"values": row} for row in rows]
    if target.settings.usage_metadata:
        body["usageMetadata"] = usage(target, by_modality)
    return body


def usage(target: Target, by_modality: Mapping[Modality, int]) -> dict[str, Any]:
    """Return the `usageMetadata` of a call; a model that takes media has its tokens by modality."""
    body: dict[str, Any] = {"promptTokenCount": sum(by_modality.values())}
    if target.spec.takes_media:
        details = [{"modality": one, "tokenCount": count} for one, count in by_modality.items()]
        for name in target.settings.token_details.names(vertex=target.vertex):
            body[name] = details
    if target.vertex:
        body["trafficType"] = "ON_DEMAND"
    return body


def _predictions(
    rows: list[Any], counts: list[int], cut: list[bool], characters: int
) -> dict[str, Any]:
    predictions = [
        {
            "embeddings": {
                "values": row,
                "statistics": {"token_count": count, "truncated": was_cut},
            }
        }
        for row, count, was_cut in zip(rows, counts, cut, strict=False)
    ]
    return {"predictions": predictions, "metadata": {"billableCharacterCount": characters}}


def paid_keys(target: Target, items: list[Item]) -> list[int]:
    """Return a hash for each content and all that its vector depends on."""
    name = target.spec.name
    return [hash((name, item.task, item.dim, item.sent, _digests(item))) for item in items]


def _digests(item: Item) -> tuple[str | bytes, ...]:
    return tuple(part if isinstance(part, str) else part.digest for part in item.parts)
