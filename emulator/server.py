"""The server: in a thread, for tests and benchmarks, or until a signal, for the command."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

import orjson
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from bulkembed.emulator.app import Emulator
from bulkembed.emulator.calls import State
from bulkembed.emulator.quotas import Clock
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.emulator.word_vectors import words
from bulkembed.schemas.errors import ConfigError

_STOP_S = 5.0


class _Protocol(H11Protocol):
    """Passes the transport to the application, which resets it for a fault."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)


class _Server(uvicorn.Server):
    """A uvicorn server that signals when it accepts, and closes all connections at its end."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.accepting.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self.server_state.connections):
            transport: Any = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        for task in list(self.server_state.tasks):
            task.cancel()
        await super().shutdown(sockets)


class EmulatorServer:
    """An emulator in a thread of this process: `with EmulatorServer(settings) as server: ...`.

    `url` is known at once, and answers inside the block. Leaving the block ends calls in flight.
    """

    def __init__(
        self, settings: EmulatorSettings | None = None, clock: Clock | None = None
    ) -> None:
        self.settings = settings or EmulatorSettings()
        self.clock = clock or Clock(offset_s=self.settings.clock_offset_s)
        self.state = State(self.settings, self.clock)
        self._emulator = Emulator(self.state)
        app = self._emulator.app()
        if not self.settings.canned:
            words()
        self._socket = _bind(self.settings)
        self._address: tuple[str, int] = self._socket.getsockname()[:2]
        self._server = _Server(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                lifespan="off",
                loop="asyncio",
                log_config=None,
                log_level="error",
                access_log=False,
                timeout_keep_alive=60,
                backlog=2048,
            )
        )
        self._thread = threading.Thread(target=self._run, name="emulator", daemon=True)

    @property
    def url(self) -> str:
        """The URL of the server, without a slash at the end."""
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def stats(self) -> dict[str, Any]:
        """Return the content of `/stats`, without the network."""
        found: dict[str, Any] = orjson.loads(orjson.dumps(self._emulator.counts()))
        return found

    def start(self) -> None:
        """Start the server; return when it accepts connections."""
        self._thread.start()
        if not self._server.accepting.wait(timeout=30):
            raise RuntimeError("the emulator did not start within 30 s")

    def stop(self) -> None:
        """Stop the server; return when the thread has ended. May be called twice."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(timeout=_STOP_S)
        self.state.worker.shutdown(wait=False, cancel_futures=True)
        self._emulator.batch.close()
        self._socket.close()

    def __enter__(self) -> EmulatorServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])


def serve_forever(settings: EmulatorSettings, announce: Callable[[str], None]) -> None:
    """Serve until a signal; `announce` gets the URL once the server accepts.

    SIGTERM and SIGINT end it, and so does SIGHUP unless it is ignored (`nohup`). Call it in the
    main thread only, since it handles signals.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: stop.set())
    with EmulatorServer(settings) as server:
        announce(server.url)
        while not stop.wait(timeout=0.5):
            pass


def _bind(settings: EmulatorSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # The protocol is named because asyncio sends at once (TCP_NODELAY) only where it is: otherwise
    # the second part of an answer waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"the emulator cannot listen on {settings.host}:{settings.port}: {error.strerror}. "
            "Choose another --port, or 0 for any free one."
        ) from error
    return listener
