"""The service of a request, and texts embedded outside of a run as those of a dataset."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from bulkembed.pipeline.run.request import RunRequest
from bulkembed.schemas.embedding import EmbeddingConfig, Service, ServiceConfig
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.job import EmbedderConfig
from bulkembed.transforms.calls.embedder import Embedder
from bulkembed.transforms.calls.stopping import StopFlag
from bulkembed.transforms.units.media_rows import FetchAhead
from bulkembed.transforms.units.row_texts import EmbeddedRows, RowText, embed_texts

RETRY_TIMEOUT_S = 60.0
"""How long a request is retried while a user waits for its result."""


@contextlib.contextmanager
def serving(service: ServiceConfig) -> Iterator[ServiceConfig]:
    """Yield the service to call; starts the emulator if the request asks for it.

    Raises:
        ConfigError: the emulator is not installed.
    """
    if service.kind is not Service.EMULATOR:
        yield service
        return
    try:
        from bulkembed.emulator.server import EmulatorServer
    except ImportError as error:
        raise ConfigError(
            f"--emulator needs {error.name}. Run pip install 'bulkembed[emulator]'."
        ) from None
    with EmulatorServer() as server:
        yield dataclasses.replace(service, base_url=server.url)


def embed_as_dataset(
    pinned: dict[str, Any],
    request: RunRequest,
    embedding: EmbeddingConfig,
    rows: Sequence[RowText],
    fetch: FetchAhead | None = None,
) -> EmbeddedRows:
    """Embed texts as those of a dataset, and return the results in the same order.

    Args:
        pinned: the content of `run.json`.
        request: the run that wrote the dataset, for its service, limits and timeouts.
        embedding: of the dataset, or of queries to it.
        rows: the texts, or parts.
        fetch: reads media; None if rows are texts alone.

    Raises:
        ConfigError: the service is not the dataset's, or there is no key.
        CallError: the service rejects every request, is down, or the daily quota is used up.
    """
    written_by, current = pinned["embedding"]["service"], request.service.identity
    if embedding.media is not None and written_by not in (Service.DEVELOPER, Service.VERTEX):
        written_by += " with --vertexai" * embedding.media.vertexai
        current += " with --vertexai" * request.service.vertexai
    if written_by != current:
        raise ConfigError(
            f"the dataset's vectors come from {written_by}, but the request would go to {current}, "
            "and their vectors cannot be compared. Select the dataset's service with --base-url, "
            "--vertexai or --emulator."
        )
    calls = dataclasses.replace(
        request.calls, retry_timeout_s=min(RETRY_TIMEOUT_S, request.calls.retry_timeout_s)
    )
    with serving(request.service) as service:
        stop = StopFlag(lambda _: embedder.end_calls(0))
        embedder = Embedder(EmbedderConfig(service, embedding, calls), stop, "bulkembed-embed")
        try:
            return embedder.loop.run(embed_texts(embedder, rows, fetch))
        finally:
            embedder.close()
