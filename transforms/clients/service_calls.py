"""Calls from threads, through google-genai or past it; their errors are CallErrors.

Nothing is retried here.
"""

from __future__ import annotations

import contextlib
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import google.auth.exceptions
import httpx2

from bulkembed.schemas.embedding import EmbeddingConfig, ServiceConfig
from bulkembed.schemas.errors import BadAnswer, CallError
from bulkembed.transforms.clients.decoding import load_object
from bulkembed.transforms.clients.error_answers import call_error, read_error
from bulkembed.transforms.clients.sdk import open_sdk
from bulkembed.transforms.clients.transport import (
    credentials_error,
    open_sync_http,
    transport_error,
    trusted_certificates,
)
from bulkembed.transforms.clients.whole_answers import ChangeRequest, WholeAnswer, kept_answer

GOOGLE = "https://generativelanguage.googleapis.com"


class ServiceCalls:
    """Calls one service. Threads may share it; it cannot be pickled.

    Args:
        service: where to call, and how.
        embedding: names the model.
        key: the API key; None for application-default credentials.

    Raises:
        ConfigError, JobRejected: the environment names a proxy or certificates that cannot be used.
    """

    def __init__(self, service: ServiceConfig, embedding: EmbeddingConfig, key: str | None) -> None:
        self._service, self._spec, self._key = service, embedding.spec, key
        certificates = trusted_certificates(service)
        self._http = open_sync_http(service, certificates)
        self.sdk = open_sdk(service, key, certificates, http=self._http)
        self._base = (service.base_url or GOOGLE).rstrip("/")

    def url(self, path: str) -> str:
        """Return the URL of a path of the Developer API."""
        return f"{self._base}/{path}"

    def at_service(self, url: str) -> str:
        """Return a URL that the service gave, at the address of the service.

        Behind a gateway, the service may give the address that it has itself.
        """
        if self._service.base_url is None:
            return url
        base, given = urllib.parse.urlsplit(self._base), urllib.parse.urlsplit(url)
        path = given.path if given.path.startswith(base.path) else base.path + given.path
        return given._replace(scheme=base.scheme, netloc=base.netloc, path=path).geturl()

    def may_see_key(self, url: str) -> bool:
        """Return whether a URL is at the address of the service, or at one of Google's hosts."""
        base, given = urllib.parse.urlsplit(self._base), urllib.parse.urlsplit(url)
        if (given.scheme, given.netloc) == (base.scheme, base.netloc):
            return True
        is_google = (given.hostname or "").endswith(".googleapis.com")
        return self._service.base_url is None and given.scheme == "https" and is_google

    def ask(self, call: Callable[[], object]) -> dict[str, Any]:
        """Return the JSON of the answer to one call of the SDK, which sees an empty answer.

        Raises:
            CallError: one of its kinds, see schemas/errors.py.
        """
        answer = self.answer_to(call)
        self.check(answer)
        return load_object(answer.body) if answer.body.strip() else {}

    def answer_to(
        self, call: Callable[[], object], change: ChangeRequest | None = None
    ) -> WholeAnswer:
        """Return the answer to one call of the SDK, whatever its status; see `check`.

        Args:
            call: calls the SDK.
            change: changes the request before it is sent.

        Raises:
            CallError: there is no answer.
        """
        with self._errors(), kept_answer(change) as kept:
            call()
        return kept[0]

    def send(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None = None
    ) -> WholeAnswer:
        """Return the answer to one request past the SDK.

        Raises:
            CallError: one of its kinds, see schemas/errors.py.
        """
        with self.opened(method, url, headers, content) as response:
            with self._errors():
                body = response.read()
            answer = WholeAnswer(response.status_code, response.headers, body)
        self.check(answer)
        return answer

    @contextlib.contextmanager
    def opened(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None = None
    ) -> Iterator[httpx2.Response]:
        """Send one request past the SDK, and yield its answer before its body is read.

        Raises:
            CallError: there is no answer.
        """
        with contextlib.ExitStack() as stack:
            with self._errors():
                request = self._http.build_request(method, url, headers=headers, content=content)
                response = stack.enter_context(self._http.opened(request))
            yield response

    def pieces(self, response: httpx2.Response) -> Iterator[bytes]:
        """Yield the body of an answer as it arrives, decompressed.

        Raises:
            CallError: the connection breaks.
        """
        chunks = response.iter_bytes()
        while True:
            with self._errors():
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk

    def key_header(self) -> dict[str, str]:
        """Return the header with the key."""
        return {"x-goog-api-key": self._key} if self._key else {}

    def check(self, answer: WholeAnswer) -> None:
        """Check that an answer is neither an error nor a page.

        Raises:
            CallError: it is one.
        """
        if answer.status < 300 and not _is_error(answer.body):
            return
        location = answer.headers.get("location", "")
        error = read_error(answer.status, answer.body, location)
        raise call_error(error, self._spec, self._service.base_url, self._key, 1)

    def close(self) -> None:
        """Close the connections."""
        self.sdk.close()
        self._http.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise CallErrors in place of the errors of the HTTP client and of Google's sign-in."""
        try:
            yield
        except CallError:
            raise
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError, OSError) as error:
            # After the handshake, the HTTP client does not wrap the OSErrors of TLS.
            raise transport_error(error) from None
        except google.auth.exceptions.GoogleAuthError as error:
            raise credentials_error(error) from None


@contextlib.contextmanager
def accepting(*rules: str) -> Iterator[None]:
    """Ignore the CallErrors of some rules of `classification.RULES`."""
    try:
        yield
    except CallError as error:
        if error.code not in rules:
            raise


def _is_error(body: bytes) -> bool:
    """Return whether the body of a good status is a page, or nothing but an error.

    A batch job that failed has an error beside its other fields.
    """
    begin = body[:200].lstrip()
    if begin.startswith(b"<"):
        return True
    if not begin.startswith(b"{") or b'"error"' not in begin:
        return False
    try:
        return load_object(body).keys() == {"error"}
    except BadAnswer:
        return False
