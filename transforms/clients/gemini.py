"""One call to the Gemini API through google-genai: texts in, a checked matrix out.

The SDK makes and signs the request and names the errors.  The body of a good answer does not pass
through it: `BodyKeeper` keeps the bytes and hands the SDK an empty answer, so that no vector ever
becomes a list of Python floats in a pydantic model.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import re
import urllib.parse
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import google.auth.exceptions
import httpx2
from google import genai
from google.genai import types

from bulkembed.schemas.embedding import EmbeddingConfig, LongText, ServiceConfig
from bulkembed.schemas.errors import CallError, JobRefused, QuotaExceeded, Unavailable
from bulkembed.schemas.models import ModelSpec, bare_name, nearest_models
from bulkembed.transforms.clients.bodies import NoVectors, kept_body
from bulkembed.transforms.clients.decode import Answer, decode_answer, decode_count
from bulkembed.transforms.clients.error_bodies import Refusal
from bulkembed.transforms.clients.keys import mask
from bulkembed.transforms.clients.transport import (
    CERTIFICATE_CURE,
    bad_certificate,
    open_http,
    transport_error,
    trusted_certificates,
)
from bulkembed.transforms.core import verdict
from bulkembed.transforms.core.content import Content, TextContent


class GeminiClient:
    """Calls one model on one service.  Lives on one event loop; cannot be pickled.

    Args:
        service: where to call, and how.
        embedding: the model and what is asked of it.
        key: the API key; None for application-default credentials.
        connections: the most calls in flight at once.

    Raises:
        ConfigError, JobRefused: the environment names a proxy or certificates that cannot be used.
    """

    def __init__(
        self, service: ServiceConfig, embedding: EmbeddingConfig, key: str | None, connections: int
    ) -> None:
        self._embedding = embedding
        self._form = _RequestForm(service, embedding)
        self._key = key
        self._timeout_s = service.timeout_s
        self._base_url = service.base_url
        certificates = trusted_certificates(service)
        self._http = open_http(service, connections, certificates)
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
                # Never called; it only keeps the SDK from reading the environment.
                httpx_client=httpx2.Client(verify=certificates, trust_env=False),
                async_client_args={"ssl": certificates},
            ),
        )

    async def embed(self, items: Sequence[Content]) -> Answer:
        """The vectors of the texts, in their order.

        Raises:
            JobRefused, CallRefused, QuotaExceeded, Unavailable, BadAnswer: see schemas/errors.py.
        """
        body = await self._call(
            lambda: self._client.aio.models.embed_content(
                model=self._embedding.model,
                contents=self._form.dummies(len(items)),
                config=types.EmbedContentConfig(
                    http_options=types.HttpOptions(extra_body=self._form.body(items))
                ),
            ),
            len(items),
        )
        return decode_answer(body, len(items), self._embedding.out_dim)

    async def count_tokens(self, content: Content) -> int:
        """The service's own count of a content's tokens, those of its title included.

        Raises:
            CallError: as `embed`.
        """
        body = await self._call(
            lambda: self._client.aio.models.count_tokens(
                model=self._embedding.model, contents=self._form.counted(content)
            ),
            1,
        )
        return decode_count(body)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def _call(self, send: Callable[[], Awaitable[object]], texts: int) -> bytes:
        """Return the body of the answer; the SDK itself sees an empty one.

        Raises:
            CallError: there was no answer, or one that holds an error or a page.
        """
        try:
            with kept_body() as body:
                async with asyncio.timeout(self._timeout_s):
                    await send()
        except NoVectors as answer:
            refusal = Refusal.read(answer.status, answer.body, answer.headers.get("location", ""))
            raise self._named(refusal, texts) from None
        except TimeoutError:
            raise Unavailable(f"no answer within {self._timeout_s:g} s", code="timeout") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError, OSError) as error:
            # An OSError: of TLS, which the HTTP client leaves as it is behind the handshake.
            raise transport_error(error) from None
        except google.auth.exceptions.GoogleAuthError as error:
            raise _credentials(error) from None
        content = body[0] if body else b""
        if Refusal.is_one(content):
            raise self._named(Refusal.read(200, content), texts)
        return content

    def _named(self, refusal: Refusal, texts: int) -> CallError:
        """Return the error of ours that stands for the service's, with the key blotted out."""
        message = mask(refusal.message, self._key)
        row = verdict.classify(refusal.reply)
        quota = verdict.quota_words(refusal.details)
        facts: dict[str, Any] = {
            "http_status": refusal.reply.status,
            "code": row.name,
            "service_message": message,
            "retry_delay_s": quota.delay_s,
            "index": verdict.named_index(refusal.message),
        }
        if row.name == "batch_size":
            facts["max_texts"] = verdict.named_cap(refusal.message, texts)
        if row.error is QuotaExceeded:
            facts |= {"quota_id": quota.quota_id, "quota_value": quota.quota_value}
        return row.error(self._sentence(row, refusal, message), **facts)

    def _sentence(self, row: verdict.Verdict, refusal: Refusal, message: str) -> str:
        sentence = f"the service answered {refusal.reply.status}: {message}"
        cure = row.cure
        if row.name == "model_gone":
            cure = missing_model_cure(self._embedding.spec, cure)
        if row.name == "path":
            cure = missing_path_cure(self._base_url, cure)
        return f"{sentence.rstrip('.')}; {cure}" if cure else sentence


def missing_model_cure(spec: ModelSpec, cure: str) -> str:
    """Return what to do about a model that the service does not have."""
    if spec.successor:
        return f"{spec.name} is no longer served; use --model {spec.successor} and a new output"
    if spec.known:
        return f"--model {spec.name} is not served there: {cure}"
    near = nearest_models(spec.name)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return f"--model {spec.name} is not known: {meant}`bulkembed models` lists those that are"


def missing_path_cure(base_url: str | None, cure: str) -> str:
    """Return what to do about an address under which the service is not."""
    path = urllib.parse.urlsplit(base_url or "").path.strip("/")
    if re.search(r"(^|/)v\d+\w*$", path):
        return (
            f"--base-url {base_url} ends with an API version, which is added to it: leave "
            f"/{path.rsplit('/', 1)[-1]} out, and say --api-version where another one is wanted"
        )
    return cure


def check_client(service: ServiceConfig, embedding: EmbeddingConfig, key: str | None) -> None:
    """Build a client and close it, so that an unusable certificate or proxy shows before the run.

    Raises:
        ConfigError, JobRefused: as GeminiClient.
    """
    client = GeminiClient(service, embedding, key, connections=1)
    # In a thread of its own: the caller's may run an event loop already, as a notebook's does.
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, client.close()).result()


class _RequestForm:
    """How a batch of texts is written for the endpoint that the SDK picks for a model."""

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

    def dummies(self, texts: int) -> list[Any]:
        """Contents that make the SDK pick its endpoint; `body` takes their place.

        Plain strings would be fused into one content for gemini-embedding-2 (python-genai#2523).
        """
        return [["x"], ["x"]] if self._vertex and not self._predict and texts > 1 else ["x"]

    def body(self, items: Sequence[Content]) -> dict[str, Any]:
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

    def counted(self, content: Content) -> str:
        """What the service counts the tokens of."""
        item = _text_of(content)
        return item.text if item.title is None else f"{item.title}\n{item.text}"

    def _request(self, content: Content, model: str) -> dict[str, Any]:
        item = _text_of(content)
        request = {"content": {"parts": [{"text": item.text}]}, **self._fields, "model": model}
        if item.title is not None:
            request["title"] = item.title
        return request

    def _vertex_request(self, content: Content) -> dict[str, Any]:
        item = _text_of(content)
        config = dict(self._fields)
        if item.title is not None:
            config["title"] = item.title
        request: dict[str, Any] = {"content": {"role": "user", "parts": [{"text": item.text}]}}
        if config:
            request["embedContentConfig"] = config
        return request

    def _predict_body(self, items: Sequence[Content]) -> dict[str, Any]:
        instances = []
        for item in map(_text_of, items):
            instance: dict[str, Any] = {"content": item.text}
            if "taskType" in self._fields:
                instance["task_type"] = self._fields["taskType"]
            if item.title is not None:
                instance["title"] = item.title
            instances.append(instance)
        parameters = {k: v for k, v in self._fields.items() if k != "taskType"}
        return {"instances": instances, **({"parameters": parameters} if parameters else {})}


def _text_of(content: Content) -> TextContent:
    """Return a content as the kind that requests can hold so far."""
    if not isinstance(content, TextContent):
        raise TypeError(f"no request is known for {type(content).__name__}")
    return content


def _credentials(error: google.auth.exceptions.GoogleAuthError) -> CallError:
    if bad_certificate(error):
        return JobRefused(
            f"the certificate of Google's sign-in does not verify; {CERTIFICATE_CURE}",
            code="certificate",
        )
    if isinstance(error, google.auth.exceptions.TransportError) or error.retryable:
        return Unavailable(f"no access token: {error}", code="credentials")
    sentence = f"no application-default credentials: {error}".rstrip(".")
    return JobRefused(
        f"{sentence}; run `gcloud auth application-default login`, or use a key",
        code="credentials",
    )
