"""Calls by the client alone, without a job around them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from bulkembed.schemas.embedding import Compression, EmbeddingConfig, Service, ServiceConfig, Wire
from bulkembed.schemas.errors import CallError
from bulkembed.transforms.clients.decoding import Answer
from bulkembed.transforms.clients.gemini import GeminiClient
from bulkembed.transforms.core.content import TextContent, as_sent
from support.jobs import item

T = TypeVar("T")


TEXTS = ["I took my dog to the vet", "Shares fell", "Ein Satz über Äpfel", "\U0001f600"]


def with_client(
    url: str, work: Callable[[GeminiClient], Awaitable[T]], *,
    vertexai: bool = False, key: str = "the-key", timeout_s: float = 60.0,
    compression: Compression = Compression.AUTO, wire: Wire = Wire.JSON,
    connections: int = 4, **embedding: Any,
) -> T:  # fmt: skip
    service = ServiceConfig(
        kind=Service.CUSTOM, base_url=url, vertexai=vertexai, timeout_s=timeout_s,
        compression=compression, wire=wire,
        api_version="v1beta1" if vertexai else "v1beta",
    )  # fmt: skip
    config = config_of(**embedding)

    async def go() -> T:
        client = GeminiClient(service, config, key, connections)
        try:
            return await work(client)
        finally:
            await client.close()

    return asyncio.run(go())


def config_of(**embedding: Any) -> EmbeddingConfig:
    return EmbeddingConfig(**{"service": "custom", "model": "gemini-embedding-001", **embedding})


def items(
    texts: list[str], titles: list[str | None] | None = None, **facts: Any
) -> list[TextContent]:
    sent = [
        as_sent(config_of(**facts), title, text)
        for title, text in zip(titles or [None] * len(texts), texts, strict=True)
    ]
    return [item(text, index, title) for index, (title, text) in enumerate(sent)]


def embed(
    url: str, texts: list[str], titles: list[str | None] | None = None, **facts: Any
) -> Answer:
    embedding = {k: v for k, v in facts.items() if k in ("model", "dim", "task_type")}
    return with_client(url, lambda client: client.embed(items(texts, titles, **embedding)), **facts)


def failing(kind: type[CallError], url: str, **facts: Any) -> CallError:
    texts = facts.pop("texts", TEXTS)
    with pytest.raises(kind) as caught:
        embed(url, texts, **facts)
    assert type(caught.value) is kind
    return caught.value
