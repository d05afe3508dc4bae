"""Prepared answers for benchmarks, so that they do not measure the server."""

from __future__ import annotations

import asyncio
import gzip
import time
from typing import Any

import numpy as np
import orjson
from starlette.requests import Request
from starlette.responses import Response

from bulkembed.emulator.answer_forms import AnswerForm, encode_vectors
from bulkembed.emulator.api_errors import invalid
from bulkembed.emulator.calls import State, compresses, embed_answer, failure_of
from bulkembed.emulator.media_rules import Modality
from bulkembed.emulator.targets import Target

TOKENS_PER_TEXT = 16
"""The count for each text: the bodies are made before the texts are known."""
_GZIP_LEVEL = 6


class CannedBodies:
    """One body for each method, form, count and dim, made at its first use.

    Only the count and the dim of a request are read. Only the limit of texts is checked, and no
    quota. Latency works, and so do faults with an error answer.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._bodies: dict[tuple[str, bool, AnswerForm, int, int, bool], bytes] = {}

    async def answer(self, target: Target, raw: bytes, request: Request) -> Response:
        """Return the prepared body after the latency."""
        started = time.monotonic()
        try:
            requests, dim = _requested(target, orjson.loads(raw))
        except (AttributeError, KeyError, TypeError, IndexError, orjson.JSONDecodeError):
            raise invalid("The canned mode does not understand this request.") from None
        state, now = self._state, self._state.clock.now()
        fault = state.faults.draw(now)
        if len(requests) > target.max_texts and not target.vertex:
            raise invalid(f"at most {target.max_texts} requests can be in one batch")
        gzipped = compresses(request, target.settings)
        content = self._body(target, len(requests), dim, gzipped=gzipped)
        await asyncio.sleep(max(0.0, started + state.faults.latency_s() - time.monotonic()))
        if fault is not None:
            raise failure_of(fault)
        count = len(requests)
        state.stats.paid(map(hash, map(str, requests)), count, count * TOKENS_PER_TEXT, now)
        headers = {"content-encoding": "gzip"} if gzipped else {}
        return Response(content, 200, headers, media_type=target.form.media_type)

    def _body(self, target: Target, count: int, dim: int, *, gzipped: bool) -> bytes:
        key = (target.method, target.vertex, target.form, count, dim, gzipped)
        if key not in self._bodies:
            vectors = np.random.default_rng(count).standard_normal((count, dim))
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            rows = list(vectors.astype(np.float32))
            counts, tokens = [TOKENS_PER_TEXT] * count, {Modality.TEXT: TOKENS_PER_TEXT * count}
            body = embed_answer(target, rows, counts, [False] * count, None, tokens)
            content = encode_vectors(body, target.form)
            self._bodies[key] = gzip.compress(content, _GZIP_LEVEL) if gzipped else content
        return self._bodies[key]


def _requested(target: Target, body: Any) -> tuple[list[Any], int]:
    """Return the items of a request, one for each text, and the dim."""
    if target.method == "predict":
        items, options = body["instances"], body.get("parameters") or {}
    elif target.method == "embedContent":
        items, options = [body], body.get("embedContentConfig") or body
    else:
        items = body["requests"]
        options = items[0].get("embedContentConfig") or items[0]
    dim = options.get("outputDimensionality") or options.get("output_dimensionality")
    return items, int(dim or target.spec.default_dim)
