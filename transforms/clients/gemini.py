"""Call the Gemini API through google-genai: contents in, a checked matrix out.

The SDK makes and signs requests, see `made_requests`. They are sent without it, so that no vector
ever becomes a list of Python floats in a pydantic model.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import google.auth.exceptions
import httpx2

from bulkembed.schemas.embedding import EmbeddingConfig, ServiceConfig, Wire
from bulkembed.schemas.errors import CallError, CallRejected, JobRejected, Unavailable
from bulkembed.transforms.clients.bodies import KeptBody, NoVectors
from bulkembed.transforms.clients.classification import NO_SUCH_METHOD
from bulkembed.transforms.clients.decoding import Answer, decode_answer, decode_count
from bulkembed.transforms.clients.error_answers import (
    ErrorAnswer,
    call_error,
    holds_error,
    read_error,
)
from bulkembed.transforms.clients.lean_answers import ALT, LeanAnswers
from bulkembed.transforms.clients.made_requests import RequestMaker, UnsentRequests
from bulkembed.transforms.clients.proto_answers import decode_proto, holds_proto, read_status
from bulkembed.transforms.clients.requests import RequestWriter
from bulkembed.transforms.clients.sdk import open_sdk
from bulkembed.transforms.clients.transport import (
    credentials_error,
    forget_frames,
    open_http,
    transport_error,
    trusted_certificates,
)
from bulkembed.transforms.core.content import Content

T = TypeVar("T")
Made = Callable[[Mapping[str, str]], Awaitable[httpx2.Request]]
"""Makes the request of a call with some query parameters."""


class GeminiClient:
    """Calls one model on one service. Lives on one event loop; cannot be pickled.

    Args:
        service: where to call, and how.
        embedding: the model, and the settings of its vectors.
        key: the API key; None for application-default credentials.
        connections: the maximum number of requests in flight.

    Raises:
        ConfigError, JobRejected: the environment names a proxy or certificates that cannot be used.
    """

    def __init__(
        self, service: ServiceConfig, embedding: EmbeddingConfig, key: str | None, connections: int
    ) -> None:
        self._embedding = embedding
        self._writer = RequestWriter(service, embedding)
        self._key = key
        self._timeout_s = service.timeout_s
        self._base_url = service.base_url
        self._lean = LeanAnswers(proto=service.wire is Wire.PROTO)
        certificates = trusted_certificates(service)
        self._http = open_http(service, connections, certificates)
        self._maker = RequestMaker(
            is_signed_by_key=key is not None, encodings=self._http.headers["accept-encoding"]
        )
        unsent = UnsentRequests(verify=certificates, trust_env=False)
        self._client = open_sdk(service, key, certificates, async_http=unsent)

    async def embed(self, contents: Sequence[Content]) -> Answer:
        """Return the vectors of the contents, in their order.

        Raises:
            CallError: one of its kinds, see schemas/errors.py.
        """
        dummies, fields = self._writer.dummies(len(contents)), self._writer.body(contents)
        models = self._client.aio.models
        try:
            return await self._call(
                lambda parameters: self._maker.request(
                    lambda: models.embed_content(model=self._embedding.model, contents=dummies),
                    parameters,
                    kind=len(dummies),
                    fields=fields,
                ),
                len(contents),
                lambda parameters, body: self._read_vectors(parameters, body, len(contents)),
                vectors=True,
            )
        except JobRejected as error:
            if self._writer.may_lack_method(len(contents)) and error.http_status in NO_SUCH_METHOD:
                raise _one_at_a_time(error) from None
            raise

    async def count_tokens(self, content: Content) -> int:
        """Return the service's own count of a content's tokens, those of its title included.

        Raises:
            CallError: as `embed`.
        """
        return await self._call(
            lambda parameters: self._maker.request(
                lambda: self._client.aio.models.count_tokens(
                    model=self._embedding.model, contents=self._writer.counted(content)
                ),
                parameters,
            ),
            1,
            lambda _, body: decode_count(body.content),
            vectors=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _call(
        self,
        make: Made,
        texts: int,
        read: Callable[[Mapping[str, str], KeptBody], T],
        *,
        vectors: bool,
    ) -> T:
        """Return what `read` makes of the parameters of the call and of the body of its answer.

        Raises:
            CallError: there was no answer, or it is an error or a page, or cannot be read.
        """

        async def send(parameters: Mapping[str, str]) -> T:
            body = KeptBody()
            try:
                await self._receive(make(parameters), body)
                is_proto = holds_proto(body.content_type, body.content)
                if not is_proto and holds_error(body.content):
                    raise self._error(read_error(200, body.content), texts)
                return read(parameters, body)
            finally:
                body.release()

        try:
            return await self._lean.call(send, vectors=vectors)
        except NoVectors as answer:
            forget_frames(answer)
            raise self._error(_read_error(answer), texts) from None

    def _read_vectors(self, parameters: Mapping[str, str], body: KeptBody, texts: int) -> Answer:
        """Return the vectors of a good answer; ask for protobuf no longer if it is none.

        Raises:
            BadAnswer: see `decode_answer`.
        """
        dim = self._embedding.out_dim
        is_good_proto = False
        try:
            if holds_proto(body.content_type, body.content):
                answer = decode_proto(body.content, texts, dim)
                is_good_proto = True
            else:
                answer = decode_answer(body.content, texts, dim)
        finally:
            if ALT in parameters and not is_good_proto:
                self._lean.drop([ALT])
        return answer

    async def _receive(self, request: Awaitable[httpx2.Request], body: KeptBody) -> None:
        """Send a request, and receive the body of its good answer.

        Raises:
            CallError: there is no answer.
            NoVectors: the answer is an error or a page.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._http.receive(await request, body)
        except TimeoutError:
            raise Unavailable(f"no answer within {self._timeout_s:g} s", code="timeout") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError, OSError) as error:
            # After the handshake, the HTTP client does not wrap the OSErrors of TLS.
            forget_frames(error)
            raise transport_error(error) from None
        except google.auth.exceptions.GoogleAuthError as error:
            raise credentials_error(error) from None

    def _error(self, answer: ErrorAnswer, texts: int) -> CallError:
        return call_error(answer, self._embedding.spec, self._base_url, self._key, texts)


def _read_error(answer: NoVectors) -> ErrorAnswer:
    if holds_proto(answer.headers.get("content-type", ""), answer.body):
        return read_status(answer.status, answer.body)
    return read_error(answer.status, answer.body, answer.headers.get("location", ""))


def _one_at_a_time(error: JobRejected) -> CallRejected:
    """Return the error for a service that takes one content per call only.

    The call of a single content shows whether the model is there at all.
    """
    return CallRejected(
        error.message,
        http_status=error.http_status,
        code="batch_size",
        service_message=error.service_message,
        max_texts=1,
    )


def check_client(service: ServiceConfig, embedding: EmbeddingConfig, key: str | None) -> None:
    """Build a client and close it, so that an unusable certificate or proxy shows before the run.

    Raises:
        ConfigError, JobRejected: as GeminiClient.
    """
    client = GeminiClient(service, embedding, key, connections=1)
    # In a thread of its own: the caller's may already run an event loop, as a notebook's does.
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, client.close()).result()
