"""Write the lines of a job file: one request each, for the Batch API or for Vertex AI."""

from __future__ import annotations

from typing import Any

import orjson

from bulkembed.schemas.embedding import EmbeddingConfig, LongText, ServiceConfig
from bulkembed.transforms.clients.requests import media_switches, parts_of, title_of
from bulkembed.transforms.core.content import Content

_SNAKE_CASE = {
    "documentOcr": "document_ocr",
    "audioTrackExtraction": "audio_track_extraction",
}


class BatchLineWriter:
    """Writes contents as lines of a job file.

    The key of a line is the hash of its content, so that results need no other list to be joined.

    Source: ai.google.dev/gemini-api/docs/batch-api and docs.cloud.google.com, "Batch prediction for
    embeddings", 2026-09.
    """

    def __init__(self, service: ServiceConfig, embedding: EmbeddingConfig) -> None:
        self._vertex = service.vertexai
        self._embedding = embedding
        facts: dict[str, Any] = {
            "output_dimensionality": embedding.sent_dim,
            "task_type": embedding.sent_task_type,
        }
        self._fields = {name: value for name, value in facts.items() if value is not None}
        if self._vertex and embedding.long_text is not LongText.TRUNCATE:
            self._fields["auto_truncate"] = False

    def line(self, content: Content) -> bytes:
        """Return the line of a content: JSON in UTF-8, with its newline."""
        title = title_of(content)
        settings = self._fields if title is None else {**self._fields, "title": title}
        if self._vertex:
            switches = media_switches(content, self._embedding)
            settings = settings | {_SNAKE_CASE[name]: is_on for name, is_on in switches.items()}
        request: dict[str, Any] = {"content": {"parts": parts_of(content)}}
        if not self._vertex:
            request |= settings
        elif settings:
            request["embed_content_config"] = settings
        line = {"key": content.hash.hex(), "request": request}
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
