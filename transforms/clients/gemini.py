"""One call to the Gemini API through google-genai: texts in, a checked matrix out.

The SDK makes and signs the request and names the errors.  The body of a good answer does not pass
through it: `BodyKeeper` keeps the bytes and hands the SDK an empty answer, so that no vector ever
becomes a list of Python floats in a pydantic model.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import google.auth.exceptions
import httpx2
from google import genai
from google.genai import errors as genai_errors
from google.genai import types

from schemas.embedding import EmbeddingConfig, LongText, Service, ServiceConfig
from schemas.errors import BadAnswer, CallError, JobRefused, Unavailable
from schemas.models import bare_name
from transforms.clients.bodies import BodyKeeper, kept_body
from transforms.clients.decode import Answer, decode_answer
from transforms.clients.keys import mask
from transforms.core import verdict
from transforms.core.packing import TextItem


class GeminiClient:
    """Calls one model on one service.  Lives on one event loop; cannot be pickled.

    Args:
        service: where to call, and how.
        embedding: the model and what is asked of it.
        key: the API key; None for application-default credentials.
        connections: the most calls in the air at once.
    """

    def __init__(
        self, service: ServiceConfig, embedding: EmbeddingConfig, key: str | None, connections: int
    ) -> None:
        self._embedding = embedding
        self._form = _RequestForm(service, embedding)
        self._key = key
        self._timeout_s = service.timeout_s
        self._http = BodyKeeper(
            # A proxy that the environment names cannot reach the emulator of this process.
            trust_env=service.kind is not Service.EMULATOR,
            timeout=httpx2.Timeout(service.timeout_s),
            limits=httpx2.Limits(
                max_connections=connections,
                max_keepalive_connections=connections,
                keepalive_expiry=30,
            ),
        )
        self._client = genai.Client(
            vertexai=service.vertexai,
            api_key=key,
            project=service.vertex_project,
            location=service.vertex_location,
            http_options=types.HttpOptions(
                base_url=service.base_url,
                api_version=service.api_version,
                timeout=int(service.timeout_s * 1000),
                httpx_async_client=self._http,
            ),
        )

    async def embed(self, items: Sequence[TextItem]) -> Answer:
        """The vectors of the texts, in their order.

        Raises:
            JobRefused, CallRefused, QuotaExceeded, Unavailable, BadAnswer: see schemas.errors.
        """
        with self._our_errors(), kept_body() as body:
            async with asyncio.timeout(self._timeout_s):
                await self._client.aio.models.embed_content(
                    model=self._embedding.model,
                    contents=self._form.dummies(len(items)),
                    config=types.EmbedContentConfig(
                        http_options=types.HttpOptions(extra_body=self._form.body(items))
                    ),
                )
        return decode_answer(body[0] if body else b"", len(items), self._embedding.out_dim)

    async def count_tokens(self, text: str) -> int:
        """The service's own count of a text's tokens.

        Raises:
            CallError: as `embed`.
        """
        with self._our_errors():
            async with asyncio.timeout(self._timeout_s):
                answer = await self._client.aio.models.count_tokens(
                    model=self._embedding.model, contents=text
                )
        if answer.total_tokens is None:
            raise BadAnswer("countTokens gives no count", code="count")
        return answer.total_tokens

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    @contextlib.contextmanager
    def _our_errors(self) -> Iterator[None]:
        """Turns whatever the SDK and its transport raise into errors of ours."""
        try:
            yield
        except genai_errors.APIError as error:
            raise self._named(error) from None
        except TimeoutError:
            raise Unavailable(f"no answer within {self._timeout_s:g} s", code="timeout") from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise _transport(error) from None
        except google.auth.exceptions.GoogleAuthError as error:
            raise _credentials(error) from None
        except json.JSONDecodeError as error:
            raise BadAnswer(f"the answer is no JSON: {error}", code="json") from None

    def _named(self, error: genai_errors.APIError) -> CallError:
        """The error of ours that stands for the service's, with the key blotted out."""
        details = error.details.get("error", error.details) if _is_map(error.details) else {}
        listed = details.get("details") if _is_map(details) else None
        # One line, however many the service writes: it goes into a log and into dead letters.
        said = " ".join(str(error.message or error.status or "no message").split())
        message = mask(said, self._key)
        row = verdict.classify(error.code, f"{said} {json.dumps(listed, default=str)}")
        return row.error(
            self._sentence(row, error.code, message),
            http_status=error.code,
            code=row.name,
            service_message=message,
            index=verdict.named_index(said),
            most_texts=verdict.named_cap(said) if row.name == "batch_size" else None,
            quota=verdict.quota_words(listed),
        )

    def _sentence(self, row: verdict.Verdict, status: int, message: str) -> str:
        sentence = f"the service answered {status}: {message}"
        if row.error is not JobRefused:
            return sentence
        cure = row.cure
        spec = self._embedding.spec
        if row.name == "model_gone" and spec.successor:
            cure = f"{spec.name} is no longer served; use --model {spec.successor} and a new output"
        return f"{sentence.rstrip('.')}; {cure}"


class _RequestForm:
    """How a batch of texts is written for the endpoint that the SDK picks for a model."""

    def __init__(self, service: ServiceConfig, embedding: EmbeddingConfig) -> None:
        self._embedding = embedding
        self._vertex = service.vertexai
        self._predict = service.predicts(bare_name(embedding.model))
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

    def dummies(self, texts: int) -> list[Any]:
        """Contents that make the SDK pick its endpoint; `body` takes their place.

        Plain strings would be fused into one content for gemini-embedding-2 (python-genai#2523).
        """
        return [["x"], ["x"]] if self._vertex and not self._predict and texts > 1 else ["x"]

    def body(self, items: Sequence[TextItem]) -> dict[str, Any]:
        """The part of the request's body that holds the texts."""
        if self._predict:
            return self._predict_body(items)
        if self._vertex and len(items) == 1:
            request = self._vertex_request(items[0])
            return {name: request[name] for name in request if name != "model"}
        if self._vertex:
            return {"requests": [self._vertex_request(item) for item in items]}
        model = f"models/{bare_name(self._embedding.model)}"
        return {"requests": [self._request(item, model) for item in items]}

    def _request(self, item: TextItem, model: str) -> dict[str, Any]:
        request = {"content": {"parts": [{"text": item.text}]}, **self._fields, "model": model}
        if item.title is not None:
            request["title"] = item.title
        return request

    def _vertex_request(self, item: TextItem) -> dict[str, Any]:
        config = dict(self._fields)
        if item.title is not None:
            config["title"] = item.title
        request: dict[str, Any] = {"content": {"role": "user", "parts": [{"text": item.text}]}}
        if config:
            request["embedContentConfig"] = config
        return request

    def _predict_body(self, items: Sequence[TextItem]) -> dict[str, Any]:
        instances = []
        for item in items:
            instance: dict[str, Any] = {"content": item.text}
            if "taskType" in self._fields:
                instance["task_type"] = self._fields["taskType"]
            if item.title is not None:
                instance["title"] = item.title
            instances.append(instance)
        parameters = {k: v for k, v in self._fields.items() if k != "taskType"}
        return {"instances": instances, **({"parameters": parameters} if parameters else {})}


def _transport(error: Exception) -> CallError:
    kind = type(error).__name__
    if isinstance(error, httpx2.UnsupportedProtocol | httpx2.InvalidURL):
        return JobRefused(f"the service cannot be called: {error}; check --base-url", code="url")
    timed_out = isinstance(error, httpx2.TimeoutException)
    return Unavailable(
        f"no answer from the service: {kind}" + (f": {error}" if str(error) else ""),
        code="timeout" if timed_out else "connection",
    )


def _credentials(error: google.auth.exceptions.GoogleAuthError) -> CallError:
    if isinstance(error, google.auth.exceptions.TransportError) or error.retryable:
        return Unavailable(f"no access token: {error}", code="credentials")
    sentence = f"no application-default credentials: {error}".rstrip(".")
    return JobRefused(
        f"{sentence}; run `gcloud auth application-default login`, or use a key",
        code="credentials",
    )


def _is_map(value: object) -> bool:
    return isinstance(value, dict)
