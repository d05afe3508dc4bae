"""Connections of asyncio for the HTTP client, which read large pieces.

httpcore's own, which are anyio's, read a piece of 64 kB at a time, and one of 16 kB with TLS. That
would be more than half of the cost of a download.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeVar

import httpcore2
import httpx2

T = TypeVar("T")

BUFFER_BYTES = 256 * 1024
"""How much of a connection is read before somebody takes it; the rest waits in the kernel."""
_CLOSE_S = 1.0
_ATTEMPT_DELAY_S = 0.25
"""After which time the next address of a host is tried as well (RFC 8305)."""


class _Receiver(asyncio.BufferedProtocol):
    """What asyncio has read of one connection."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._end = 0
        self._is_paused = False
        self._is_over = False
        self._error: Exception | None = None
        self._transport: Any = None
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def get_buffer(self, _: int) -> memoryview:
        return self._buffer[self._end :]

    def buffer_updated(self, count: int) -> None:
        self._end += count
        if self._end == len(self._buffer):
            self._is_paused = True
            self._transport.pause_reading()
        self._readable.set()

    def eof_received(self) -> None:
        self._is_over = True
        self._readable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        self._is_over, self._error = True, error
        self._readable.set()
        self._writable.set()
        self.closed.set()

    @property
    def is_readable(self) -> bool:
        """Whether there is something to read: data, or the end of the connection."""
        return self._readable.is_set()

    async def read(self) -> bytes:
        """Return what has arrived; nothing at the end of the connection.

        Raises:
            OSError: the connection is broken.
        """
        await self._readable.wait()
        piece, self._end = bytes(self._buffer[: self._end]), 0
        if not self._is_over:
            self._readable.clear()
        elif self._error is not None and not piece:
            raise self._error
        if self._is_paused:
            self._is_paused = False
            if not self._is_over:
                self._transport.resume_reading()
        return piece

    async def drain(self) -> None:
        """Wait until the kernel has taken most of what was written.

        Raises:
            OSError: the connection is broken.
        """
        await self._writable.wait()
        if self.closed.is_set():
            raise self._error or ConnectionResetError("the connection is closed")


class WideStream(httpcore2.AsyncNetworkStream):
    """One connection."""

    def __init__(self, transport: Any, receiver: _Receiver) -> None:
        self._transport = transport
        self._receiver = receiver

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """See httpcore; returns up to BUFFER_BYTES, whatever `max_bytes` is."""
        with _errors(httpcore2.ReadTimeout, httpcore2.ReadError):
            return await _within(timeout, self._receiver.read())

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """See httpcore."""
        with _errors(httpcore2.WriteTimeout, httpcore2.WriteError):
            self._transport.write(buffer)
            await _within(timeout, self._receiver.drain())

    async def aclose(self) -> None:
        """See httpcore."""
        self._transport.abort()
        with contextlib.suppress(TimeoutError):
            await _within(_CLOSE_S, self._receiver.closed.wait())

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """See httpcore."""
        receiver = _Receiver()
        self._receiver.closed.set()  # asyncio no longer calls it.
        try:
            with _errors(httpcore2.ConnectTimeout, httpcore2.ConnectError):
                transport = await _within(
                    timeout,
                    asyncio.get_running_loop().start_tls(
                        self._transport, receiver, ssl_context, server_hostname=server_hostname
                    ),
                )
                if transport is None:
                    raise ConnectionResetError("the connection was closed in the TLS handshake")
        except BaseException:
            self._transport.abort()
            raise
        receiver.connection_made(transport)
        return WideStream(transport, receiver)

    def get_extra_info(self, info: str) -> Any:
        """See httpcore."""
        if info == "is_readable":
            return self._receiver.is_readable or _is_readable(self._transport)
        names = {"client_addr": "sockname", "server_addr": "peername"}
        return self._transport.get_extra_info(names.get(info, info))


class WideBackend(httpcore2.AsyncNetworkBackend):
    """Opens connections on the running event loop of asyncio."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """See httpcore."""
        with _errors(httpcore2.ConnectTimeout, httpcore2.ConnectError):
            transport, receiver = await _within(
                timeout,
                asyncio.get_running_loop().create_connection(
                    _Receiver,
                    host,
                    port,
                    local_addr=(local_address, 0) if local_address else None,
                    happy_eyeballs_delay=_ATTEMPT_DELAY_S,
                ),
            )
            for option in socket_options or ():
                transport.get_extra_info("socket").setsockopt(*option)
        return WideStream(transport, receiver)

    async def sleep(self, seconds: float) -> None:
        """See httpcore."""
        await asyncio.sleep(seconds)


def replace_backend(
    transport: httpx2.AsyncHTTPTransport,
    make: Callable[[httpcore2.AsyncNetworkBackend], httpcore2.AsyncNetworkBackend],
) -> None:
    """Let a transport open its connections through another backend, made from its own.

    httpx has no public way to choose one. A transport of our own over httpcore's pools, which have
    one, would repeat httpx's proxies, limits and errors.
    """
    pool: Any = transport._pool
    pool._network_backend = make(pool._network_backend)


def _is_readable(transport: Any) -> bool:
    """Return whether the kernel has something to read: data, or the end of the connection."""
    descriptor = transport.get_extra_info("socket").fileno()
    if descriptor < 0:
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


async def _within(timeout_s: float | None, work: Awaitable[T]) -> T:
    """Return the result of some work; raise TimeoutError if it takes longer."""
    async with asyncio.timeout(timeout_s):
        return await work


@contextlib.contextmanager
def _errors(timeout: type[Exception], broken: type[Exception]) -> Iterator[None]:
    """Raise httpcore's errors in place of asyncio's."""
    try:
        yield
    except TimeoutError as error:
        raise timeout(error) from error
    except OSError as error:
        raise broken(error) from error
