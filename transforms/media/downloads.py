"""Downloads over HTTP: redirects, retries, limits per host and over all hosts."""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import contextlib
import dataclasses
import datetime as dt
import email.utils
import http
import random
import urllib.parse
from collections.abc import AsyncIterator
from typing import IO

import httpcore2
import httpx2

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.fetch_settings import MAX_REDIRECTS, FetchSettings
from bulkembed.schemas.media import MediaFault
from bulkembed.schemas.messages import number_of
from bulkembed.transforms.clients.network import replace_backend
from bulkembed.transforms.clients.transport import bad_certificate, environment_certificates
from bulkembed.transforms.core.backoff import retry_wait_s
from bulkembed.transforms.media.addresses import (
    AddressRefused,
    CheckedBackend,
    UnknownHost,
    check_literal,
)
from bulkembed.transforms.media.stored_media import too_large

_HEADERS = {"User-Agent": "bulkembed", "Accept": "*/*", "Accept-Encoding": "identity"}
_NOT_FOUND = (404, 410)
_FORBIDDEN = (401, 403, 407, 451)
_BROKEN = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError, TimeoutError)


class HostLimits:
    """Limits of the downloads in flight: so many per host, and so many over all hosts.

    They belong to one event loop.
    """

    def __init__(self, settings: FetchSettings) -> None:
        self._per_host = settings.per_host
        self._all = asyncio.Semaphore(settings.concurrency)
        self._hosts: dict[str, _Host] = {}

    @contextlib.asynccontextmanager
    async def host(self, name: str) -> AsyncIterator[_Host]:
        """Give the host of that name; it is forgotten once nobody downloads from it."""
        host = self._hosts.setdefault(name, _Host(self._all, asyncio.Semaphore(self._per_host)))
        host.users += 1
        try:
            yield host
        finally:
            host.users -= 1
            if not host.users:
                del self._hosts[name]


@dataclasses.dataclass(slots=True)
class _Host:
    over_all: asyncio.Semaphore
    own: asyncio.Semaphore
    users: int = 0
    open_at: float = 0.0
    """When the host takes requests again, by the clock of the loop."""

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot, and for the end of a pause that the host has asked for."""
        async with self.own:
            while (wait_s := self.open_at - asyncio.get_running_loop().time()) > 0:
                await asyncio.sleep(wait_s)
            async with self.over_all:
                yield

    def pause(self, delay_s: float) -> None:
        """Send nothing to the host for a time."""
        self.open_at = max(self.open_at, asyncio.get_running_loop().time() + delay_s)


class _Passing(Exception):
    """A failure that another attempt may not have; the message is a clause."""

    def __init__(self, what: str, delay_s: float | None = None) -> None:
        super().__init__(what)
        self.delay_s = delay_s
        """What the host asks for; None if it does not."""


class Downloads:
    """Downloads files from web servers, on one event loop.

    Args:
        settings: time-outs and limits.
        limits: those of the requests in flight, which other downloads share.
        threads: where names are resolved.

    Raises:
        JobRejected: the environment names certificates that cannot be read.
    """

    def __init__(
        self, settings: FetchSettings, limits: HostLimits, threads: concurrent.futures.Executor
    ) -> None:
        self._settings = settings
        self._limits = limits
        self._client = httpx2.AsyncClient(
            verify=environment_certificates(),
            trust_env=True,  # Proxies; the certificates are given.
            timeout=httpx2.Timeout(settings.timeout_s, connect=settings.connect_timeout_s),
            limits=httpx2.Limits(
                max_connections=settings.concurrency, max_keepalive_connections=settings.concurrency
            ),
        )
        allow_private = settings.allow_private_addresses
        replace_backend(
            self._direct, lambda own: CheckedBackend(own, threads, allow_private=allow_private)
        )

    @property
    def _direct(self) -> httpx2.AsyncHTTPTransport:
        """What connects without a proxy."""
        transport = self._client._transport
        assert isinstance(transport, httpx2.AsyncHTTPTransport)
        return transport

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def download(self, uri: str, into: IO[bytes]) -> None:
        """Write the body of a URL into a file.

        Raises:
            MediaFault: there is no such page, it may not be read, is too large, or is not sent; the
                message is a clause without the URL.
        """
        url = _parsed(uri)
        for _ in range(MAX_REDIRECTS + 1):
            target = await self._request(url, into)
            if target is None:
                return
            url = target
        raise MediaFault(DeadCode.FETCH_FAILED, f"more than {MAX_REDIRECTS} redirects")

    async def _request(self, url: httpx2.URL, into: IO[bytes]) -> httpx2.URL | None:
        """Write the body of a URL; return where the answer redirects to, or None."""
        async with self._limits.host(url.netloc.decode()) as host:
            attempt = 1
            while True:
                try:
                    async with host.slot():
                        return await self._attempt(url, into)
                except _Passing as failure:
                    await self._wait_after(failure, attempt, host)
                attempt += 1

    async def _wait_after(self, failure: _Passing, attempt: int, host: _Host) -> None:
        """Wait before the next attempt.

        Raises:
            MediaFault: there is no next attempt.
        """
        delay_s, most_s = failure.delay_s, self._settings.max_wait_s
        if delay_s is not None and delay_s > most_s:
            what = f"{failure}, and asks to wait {delay_s:,.0f} s"
            raise MediaFault(DeadCode.FETCH_FAILED, what)
        if delay_s is not None:
            host.pause(delay_s)
        if attempt >= self._settings.attempts:
            tries = number_of(attempt, "attempt")
            raise MediaFault(DeadCode.FETCH_FAILED, f"{failure} ({tries})")
        await asyncio.sleep(retry_wait_s(attempt, random.random(), server_delay_s=delay_s))

    async def _attempt(self, url: httpx2.URL, into: IO[bytes]) -> httpx2.URL | None:
        into.seek(0)
        into.truncate()
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                return await self._exchange(url, into)
        except _BROKEN as error:
            if bad_certificate(error):
                what = "the certificate of the server is not trusted"
                raise MediaFault(DeadCode.FETCH_FAILED, what) from None
            if isinstance(error, TimeoutError | httpx2.TimeoutException):
                what = f"no complete answer within {self._settings.timeout_s:g} s"
                raise _Passing(what) from None
            raise _Passing(f"the connection failed: {error or type(error).__name__}") from None
        except AddressRefused as error:
            raise MediaFault(DeadCode.FORBIDDEN, str(error)) from None
        except UnknownHost as error:
            raise MediaFault(DeadCode.NOT_FOUND, str(error)) from None
        except (httpx2.HTTPError, httpcore2.ProxyError) as error:
            what = f"no answer: {error or type(error).__name__}"
            raise MediaFault(DeadCode.FETCH_FAILED, what) from None

    async def _exchange(self, url: httpx2.URL, into: IO[bytes]) -> httpx2.URL | None:
        # The client's own `send` logs the URL with its query, and keeps cookies.
        request = self._client.build_request("GET", url, headers=_HEADERS | _authorization(url))
        transport = self._client._transport_for_url(url)
        if transport is not self._direct and not self._settings.allow_private_addresses:
            check_literal(url.host)
        response = await transport.handle_async_request(request)
        response.request = request
        try:
            if response.has_redirect_location:
                return _target(url, response.headers["Location"])
            if response.status_code // 100 != 2:
                raise _failure(response)
            await self._receive(response, into)
        finally:
            await response.aclose()
        return None

    async def _receive(self, response: httpx2.Response, into: IO[bytes]) -> None:
        most, received = self._settings.max_bytes, 0
        declared = response.headers.get("Content-Length", "")
        if declared.isdecimal() and int(declared) > most:
            raise too_large(int(declared), most)
        async for chunk in response.aiter_bytes():
            received += len(chunk)
            if received > most:
                raise too_large(None, most)
            into.write(chunk)


def _parsed(uri: str) -> httpx2.URL:
    try:
        url = httpx2.URL(uri)
    except (httpx2.InvalidURL, ValueError):
        raise MediaFault(DeadCode.FETCH_FAILED, "it is not a valid URL") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise MediaFault(DeadCode.FETCH_FAILED, "it is not a URL of http or https with a host")
    return url


def _target(url: httpx2.URL, location: str) -> httpx2.URL:
    """Return where a redirect leads to."""
    try:
        return _parsed(str(url.join(location)))
    except (httpx2.InvalidURL, ValueError, MediaFault):
        raise MediaFault(DeadCode.FETCH_FAILED, "it redirects to what is not a web page") from None


def _authorization(url: httpx2.URL) -> dict[str, str]:
    if not url.userinfo:
        return {}
    user, _, password = url.userinfo.partition(b":")
    pair = b":".join(map(urllib.parse.unquote_to_bytes, (user, password)))
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _failure(response: httpx2.Response) -> Exception:
    status = response.status_code
    with contextlib.suppress(ValueError):
        return _failure_of(status, f"{status} {http.HTTPStatus(status).phrase}", response)
    return _failure_of(status, str(status), response)


def _failure_of(status: int, name: str, response: httpx2.Response) -> Exception:
    what = f"the server answered {name}"
    if status == 429 or status >= 500:
        return _Passing(what, _retry_after_s(response.headers.get("Retry-After", "")))
    if status in _NOT_FOUND:
        return MediaFault(DeadCode.NOT_FOUND, what)
    return MediaFault(DeadCode.FORBIDDEN if status in _FORBIDDEN else DeadCode.FETCH_FAILED, what)


def _retry_after_s(value: str) -> float | None:
    """Return the seconds of a Retry-After header, which may be a date."""
    if value.strip().isdecimal():
        return float(value)
    try:
        at = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=dt.UTC)
    return max(0.0, (at - dt.datetime.now(dt.UTC)).total_seconds())
