"""A few texts embedded as a dataset's were, outside of a run."""

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
from bulkembed.transforms.units.row_texts import EmbeddedRows, RowText, embed_texts


@contextlib.contextmanager
def serving(service: ServiceConfig) -> Iterator[ServiceConfig]:
    """The service to call, for as long as it is needed.

    Raises:
        ConfigError: the emulator is asked for and not installed.
    """
    if service.kind is not Service.EMULATOR:
        yield service
        return
    try:
        from bulkembed.emulator.server import EmulatorServer
    except ImportError as error:
        raise ConfigError(
            f"--emulator needs {error.name}; pip install 'bulkembed[emulator]'"
        ) from None
    with EmulatorServer() as server:
        yield dataclasses.replace(service, base_url=server.url)


DEADLINE_S = 60.0
"""How long a call is tried again: somebody waits for it."""


def ask(
    pinned: dict[str, Any], request: RunRequest, embedding: EmbeddingConfig, rows: Sequence[RowText]
) -> EmbeddedRows:
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
        request.calls, retry_timeout_s=min(DEADLINE_S, request.calls.retry_timeout_s)
    )
    with serving(request.service) as service:
        stop = StopFlag(lambda _: embedder.end_calls(0))
        embedder = Embedder(EmbedderConfig(service, embedding, calls), stop, "bulkembed-asking")
        try:
            return embedder.loop.run(embed_texts(embedder, rows))
        finally:
            embedder.close()
