"""Write the body of a request for the endpoint that google-genai picks for a model."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from bulkembed.schemas.embedding import EmbeddingConfig, LongText, ServiceConfig
from bulkembed.schemas.media import MediaKind
from bulkembed.schemas.models import bare_name
from bulkembed.transforms.core.content import Content, TextContent
from bulkembed.transforms.core.media_content import MediaContent, SentPart, UriMedia


class RequestWriter:
    """Writes contents as requests: for the Developer API, for Vertex AI, or for its `:predict`."""

    def __init__(self, service: ServiceConfig, embedding: EmbeddingConfig) -> None:
        self._embedding = embedding
        self._vertex = service.vertexai
        self._predict = service.predicts(embedding.spec)
        self._fields: dict[str, Any] = {
            name: value
            for name, value in (
                ("taskType", embedding.sent_task_type),
                ("outputDimensionality", embedding.sent_dim),
            )
            if value is not None
        }
        if self._vertex and embedding.long_text is not LongText.TRUNCATE:
            self._fields["autoTruncate"] = False

    def dummies(self, contents: int) -> list[Any]:
        """Return contents from which the SDK picks its endpoint; `body` replaces them.

        For gemini-embedding-2, the SDK would join plain strings into one content
        (python-genai#2523).
        """
        return [["x"], ["x"]] if self._vertex and not self._predict and contents > 1 else ["x"]

    def may_lack_method(self, contents: int) -> bool:
        """Return whether a call goes to a method that a service may not offer.

        The `:batchEmbedContents` of Vertex AI answered 404 in 2026-06.
        """
        return self._vertex and not self._predict and contents > 1

    def body(self, contents: Sequence[Content]) -> dict[str, Any]:
        """Return the part of the request's body that holds the contents."""
        if self._predict:
            return self._predict_body(contents)
        if self._vertex and len(contents) == 1:
            request = self._vertex_request(contents[0])
            return {name: request[name] for name in request if name != "model"}
        if self._vertex:
            return {"requests": [self._vertex_request(content) for content in contents]}
        model = f"models/{bare_name(self._embedding.model)}"
        return {"requests": [self._request(content, model) for content in contents]}

    def counted(self, content: Content) -> str:
        """Return the text whose tokens the service counts: the content with its title."""
        text = text_of(content)
        return text.text if text.title is None else f"{text.title}\n{text.text}"

    def _request(self, content: Content, model: str) -> dict[str, Any]:
        request = {"content": {"parts": parts_of(content)}, **self._fields, "model": model}
        title = title_of(content)
        if title is not None:
            request["title"] = title
        return request

    def _vertex_request(self, content: Content) -> dict[str, Any]:
        config = self._fields | media_switches(content, self._embedding)
        title = title_of(content)
        if title is not None:
            config["title"] = title
        request: dict[str, Any] = {"content": {"role": "user", "parts": parts_of(content)}}
        if config:
            request["embedContentConfig"] = config
        return request

    def _predict_body(self, contents: Sequence[Content]) -> dict[str, Any]:
        instances = []
        for text in map(text_of, contents):
            instance: dict[str, Any] = {"content": text.text}
            if "taskType" in self._fields:
                instance["task_type"] = self._fields["taskType"]
            if text.title is not None:
                instance["title"] = text.title
            instances.append(instance)
        parameters = {k: v for k, v in self._fields.items() if k != "taskType"}
        return {"instances": instances, **({"parameters": parameters} if parameters else {})}


def media_switches(content: Content, embedding: EmbeddingConfig) -> dict[str, bool]:
    """Return the fields of Vertex AI that say how media of a content is read, if it has such media.

    Source: google-genai, `types.EmbedContentConfig`, 2026-11.
    """
    media = embedding.media
    if media is None or not isinstance(content, MediaContent):
        return {}
    kinds = {part.kind for part in content.media}
    found = {
        "documentOcr": media.document_ocr and MediaKind.PDF in kinds,
        "audioTrackExtraction": media.audio_track and MediaKind.VIDEO in kinds,
    }
    return {name: is_on for name, is_on in found.items() if is_on}


def title_of(content: Content) -> str | None:
    """Return the title of a content that has a field for it in the request."""
    return content.title if isinstance(content, TextContent) else None


def parts_of(content: Content) -> list[dict[str, Any]]:
    """Return the parts of a content, with its media read and in base64."""
    if isinstance(content, MediaContent):
        return [_part(part) for part in content.parts]
    return [{"text": text_of(content).text}]


def _part(part: SentPart) -> dict[str, Any]:
    if isinstance(part, str):
        return {"text": part}
    if isinstance(part, UriMedia):
        return {"fileData": {"mimeType": part.mime, "fileUri": part.uri}}
    data = base64.b64encode(part.read()).decode("ascii")
    return {"inlineData": {"mimeType": part.mime, "data": data}}


def text_of(content: Content) -> TextContent:
    """Return a content as a text, the only kind that some methods take."""
    if not isinstance(content, TextContent):
        raise TypeError(f"a request cannot have a {type(content).__name__}")
    return content
