"""Write the lines of a job file: one request each, for the Batch API or for Vertex AI."""

from __future__ import annotations

from typing import Any

import orjson

from bulkembed.schemas.embedding import EmbeddingConfig, LongText, ServiceConfig
from bulkembed.transforms.clients.requests import text_of
from bulkembed.transforms.core.content import Content


class BatchLineWriter:
    """Writes contents as lines of a job file.

    The key of a line is the hash of its content, so that results need no other list to be joined.

    Source: ai.google.dev/gemini-api/docs/batch-api and docs.cloud.google.com, "Batch prediction for
    embeddings", 2026-09.
    """

    def __init__(self, service: ServiceConfig, embedding: EmbeddingConfig) -> None:
        self._vertex = service.vertexai
        facts: dict[str, Any] = {
            "output_dimensionality": embedding.sent_dim,
            "task_type": embedding.sent_task_type,
        }
        self._fields = {name: value for name, value in facts.items() if value is not None}
        if self._vertex and embedding.long_text is not LongText.TRUNCATE:
            self._fields["auto_truncate"] = False

    def line(self, content: Content) -> bytes:
        """Return the line of a content: JSON in UTF-8, with its newline."""
        text = text_of(content)
        settings = self._fields if text.title is None else {**self._fields, "title": text.title}
        request: dict[str, Any] = {"content": {"parts": [{"text": text.text}]}}
        if not self._vertex:
            request |= settings
        elif settings:
            request["embed_content_config"] = settings
        line = {"key": content.hash.hex(), "request": request}
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
