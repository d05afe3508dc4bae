"""A few texts embedded as a dataset's were, outside of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from pipeline.request import RunRequest
from pipeline.service import serving
from schemas.embedding import EmbeddingConfig
from schemas.errors import ConfigError
from schemas.job import EmbedderConfig
from transforms.engine.embedder import Embedder
from transforms.engine.row_texts import RowFates, RowText, embed_texts
from transforms.engine.stopping import StopFlag

DEADLINE_S = 60.0
"""How long a call is tried again: somebody waits for it."""


def ask(
    pinned: dict[str, Any], request: RunRequest, embedding: EmbeddingConfig, rows: Sequence[RowText]
) -> RowFates:
    """What becomes of texts, in their order.

    Args:
        pinned: the content of `run.json`.
        request: the run that made the dataset, for its service, limits and time-outs.
        embedding: that of the dataset, or of queries to it.
        rows: the texts.

    Raises:
        ConfigError: another service than the dataset's, or there is no key.
        CallError: the service refuses every call, is down, or the day's quota is spent.
    """
    there, here = pinned["embedding"]["service"], request.service.identity
    if there != here:
        raise ConfigError(
            f"the dataset's vectors come from {there}, and this would ask {here}: they cannot be "
            "compared; say where its service is, with --base-url, --vertexai or --emulator"
        )
    calls = dataclasses.replace(
        request.calls, call_deadline_s=min(DEADLINE_S, request.calls.call_deadline_s)
    )
    with serving(request.service) as service:
        stop = StopFlag(lambda _: embedder.end_calls(0))
        embedder = Embedder(EmbedderConfig(service, embedding, calls), stop, "bulkembed-asking")
        try:
            return embedder.loop.run(embed_texts(embedder, rows))
        finally:
            embedder.close()
