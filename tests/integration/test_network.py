"""Connections of the HTTP client, to servers of plain and TLS sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpcore2
import pytest
from support.certificates import own_certificate

from bulkembed.transforms.clients.network import BUFFER_BYTES, WideBackend, WideStream

DATA = bytes(range(251)) * 20_000
S = 20.0
Server = Callable[[socket.socket], None]


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    certificate, key = own_certificate(Path(tmp_path_factory.mktemp("tls")))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=certificate)


@contextlib.contextmanager
def served(answer: Server, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve one connection in a thread; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                if context is not None:
                    with context.wrap_socket(connection, server_side=True) as secure:
                        answer(secure)
                else:
                    answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(S)
        assert not thread.is_alive()


def connected(
    port: int, work: Callable[[WideStream], Awaitable[None]], context: ssl.SSLContext | None = None
) -> None:
    async def go() -> None:
        stream = await WideBackend().connect_tcp("127.0.0.1", port, timeout=S)
        if context is not None:
            stream = await stream.start_tls(context, "127.0.0.1", timeout=S)
        assert isinstance(stream, WideStream)
        try:
            await work(stream)
        finally:
            await stream.aclose()

    asyncio.run(go())


@pytest.mark.parametrize("tls", [False, True])
def test_large_pieces_arrive_as_they_were_sent(
    tls: bool, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    sent = threading.Event()

    def answer(connection: socket.socket) -> None:
        assert connection.recv(100) == b"hello"
        connection.sendall(DATA[:BUFFER_BYTES])
        sent.set()
        connection.sendall(DATA[BUFFER_BYTES:])

    async def work(stream: WideStream) -> None:
        await stream.write(b"hello", S)
        await asyncio.to_thread(sent.wait, S)
        pieces = []
        while piece := await stream.read(100, S):
            await asyncio.sleep(0.002)  # As while another answer is decoded.
            pieces.append(piece)
        assert b"".join(pieces) == DATA
        assert len(pieces) < 3 * len(DATA) / BUFFER_BYTES

    server, client = contexts if tls else (None, None)
    with served(answer, server) as port:
        connected(port, work, client)


def test_what_nobody_reads_stays_in_the_kernel() -> None:
    def answer(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.sendall(bytes(200 << 20))

    async def work(stream: WideStream) -> None:
        await asyncio.sleep(0.5)
        assert len(await stream.read(100, S)) == BUFFER_BYTES

    with served(answer) as port:
        connected(port, work)


def test_a_large_request_waits_for_a_slow_reader() -> None:
    received = bytearray()

    def answer(connection: socket.socket) -> None:
        while len(received) < len(DATA):
            received.extend(connection.recv(1 << 16))
        connection.sendall(b"done")

    async def work(stream: WideStream) -> None:
        await stream.write(DATA, S)
        assert await stream.read(100, S) == b"done"

    with served(answer) as port:
        connected(port, work)
    assert received == DATA


def test_a_silent_server_is_a_time_out() -> None:
    over = threading.Event()

    async def work(stream: WideStream) -> None:
        with pytest.raises(httpcore2.ReadTimeout):
            await stream.read(100, 0.05)
        assert not stream.get_extra_info("is_readable")
        with pytest.raises(httpcore2.WriteTimeout):
            await stream.write(DATA * 10, 0.05)
        over.set()

    with served(lambda _: assert_set(over)) as port:
        connected(port, work)


def assert_set(event: threading.Event) -> None:
    assert event.wait(S)


def test_a_reset_connection_is_an_error_after_what_arrived() -> None:
    read = threading.Event()

    def answer(connection: socket.socket) -> None:
        connection.sendall(b"half")
        assert read.wait(S)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    async def work(stream: WideStream) -> None:
        assert await stream.read(100, S) == b"half"
        read.set()
        with pytest.raises(httpcore2.ReadError):
            await stream.read(100, S)
        with pytest.raises(httpcore2.WriteError):
            await stream.write(b"more", S)

    with served(answer) as port:
        connected(port, work)


@pytest.mark.parametrize("tls", [False, True])
def test_an_idle_connection_that_the_server_closes_is_known(
    tls: bool, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    may_close, closed = threading.Event(), threading.Event()

    def answer(connection: socket.socket) -> None:
        assert may_close.wait(S)
        connection.shutdown(socket.SHUT_WR)
        closed.set()

    async def work(stream: WideStream) -> None:
        await asyncio.sleep(0.05)
        while stream.get_extra_info("is_readable"):  # Tickets of TLS.
            with contextlib.suppress(httpcore2.ReadTimeout):
                await stream.read(100, 0.05)
        may_close.set()
        assert closed.wait(S)  # The event loop has not seen it yet.
        assert stream.get_extra_info("is_readable")
        assert await stream.read(100, S) == b""

    server, client = contexts if tls else (None, None)
    with served(answer, server) as port:
        connected(port, work, client)


def test_no_connection_and_no_handshake_are_errors_of_connecting(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]

    async def refused() -> None:
        with pytest.raises(httpcore2.ConnectError):
            await WideBackend().connect_tcp("127.0.0.1", free, timeout=S)

    async def no_tls(port: int) -> None:
        stream = await WideBackend().connect_tcp("127.0.0.1", port, timeout=S)
        with pytest.raises(httpcore2.ConnectError):
            await stream.start_tls(contexts[1], "127.0.0.1", timeout=S)
        async with asyncio.timeout(5):
            await stream.aclose()

    asyncio.run(refused())
    for answer in (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"):

        def refuse(connection: socket.socket, answer: bytes = answer) -> None:
            connection.recv(1 << 16)
            connection.sendall(answer)

        with served(refuse) as port:
            asyncio.run(no_tls(port))


def test_a_cancelled_read_leaves_what_arrives_later() -> None:
    may_send = threading.Event()

    def answer(connection: socket.socket) -> None:
        assert may_send.wait(S)
        connection.sendall(b"late")

    async def work(stream: WideStream) -> None:
        reading = asyncio.create_task(stream.read(100, S))
        await asyncio.sleep(0.05)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        may_send.set()
        assert await stream.read(100, S) == b"late"

    with served(answer) as port:
        connected(port, work)
