"""The worker processes of `--workers`: how Beam starts them, and what happens if one dies.

Beam's own environment for subprocesses starts a shell, and takes no notice of a process that dies:
its runner would wait for an answer for ever.  Here the launcher waits for each process.  When one
dies before its work is done, the run is told at once, and the runner gets an error for everything
that it wants from that worker.

Source: apache_beam 2.77, runners/portability/fn_api_runner/worker_handlers.py.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import grpc  # type: ignore[import-untyped]  # grpcio ships no types
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.worker_handlers import (
    ControlConnection,
    ControlFuture,
    GrpcWorkerHandler,
    WorkerHandler,
)
from apache_beam.transforms.environments import Environment
from google.protobuf import json_format, text_format  # type: ignore[import-untyped]  # no types

URN = "bulkembed:environment:worker_processes:v1"


class ProcessGroup:
    """The worker processes of one run.

    Args:
        command: what starts one of them.
        on_loss: called with a sentence when the first one dies before its work is done, from a
            thread of the group's own; it must tell the others to end.
        shutdown_timeout_s: how long the others may take for that.
    """

    def __init__(
        self, command: Sequence[str], on_loss: Callable[[str], None], shutdown_timeout_s: float
    ) -> None:
        self.command = list(command)
        self._on_loss = on_loss
        self._shutdown_timeout_s = shutdown_timeout_s
        self._lock = threading.Lock()
        self._handlers: list[_ProcessHandler] = []
        self._lost: str | None = None

    @property
    def lost(self) -> str | None:
        """How the first process died, as a sentence; None if none has died."""
        return self._lost

    def add(self, handler: _ProcessHandler) -> None:
        """Add a process; kill it at once if another one has died."""
        with self._lock:
            self._handlers.append(handler)
            if self._lost is not None:
                handler.kill(self._lost)

    def lose(self, sentence: str) -> None:
        """End the run because a process died."""
        with self._lock:
            if self._lost is not None:
                return
            self._lost = sentence
            handlers = list(self._handlers)
        # Begun before the others are told, which a store that fails may hold up or prevent.
        late = threading.Timer(self._shutdown_timeout_s, _kill, (handlers, sentence))
        late.daemon = True
        late.start()
        self._on_loss(sentence)
        for handler in handlers:
            if not handler.control_conn.is_connected:
                handler.kill(sentence)  # It has not begun anything.

    @contextlib.contextmanager
    def runner(self) -> Iterator[FnApiRunner]:
        """Beam's local engine, whose workers are processes of this group."""
        token = secrets.token_hex(8)
        _groups[token] = self
        try:
            yield FnApiRunner(_ProcessEnvironment(token))
        finally:
            del _groups[token]


_groups: dict[str, ProcessGroup] = {}
"""Groups by the payload of their environment, which is all that Beam gives a worker's handler."""


@Environment.register_urn(URN, bytes)
class _ProcessEnvironment(Environment):
    """The environment in Beam's description of a pipeline that names a group of processes."""

    def __init__(self, token: str, *more: Any) -> None:
        super().__init__(*more)
        self._token = token

    def to_runner_api_parameter(self, _: object) -> tuple[str, bytes]:
        return URN, self._token.encode()

    @staticmethod
    def from_runner_api_parameter(payload: bytes, *more: Any) -> _ProcessEnvironment:
        return _ProcessEnvironment(payload.decode(), *more[:-1])


class _Connection(ControlConnection):
    """The runner's requests to one worker; each gets an answer, or an error if the worker dies."""

    def __init__(self) -> None:
        super().__init__()
        self._answered = threading.Condition()
        self._lost: str | None = None

    @property
    def is_connected(self) -> bool:
        """Whether the worker has connected."""
        return bool(self._input is not None)

    def push(self, req: Any) -> ControlFuture | None:
        with self._answered:
            if self._lost is None or not isinstance(req, beam_fn_api_pb2.InstructionRequest):
                return super().push(req)
        return ControlFuture(req.instruction_id, _failed(req.instruction_id, self._lost))

    def wait(self) -> None:
        """Wait for the answers to all requests."""
        with self._answered:
            self._answered.wait_for(lambda: not self._futures_by_id)

    def lose(self, sentence: str) -> None:
        """Answer all requests to a dead worker with an error."""
        with self._answered:
            self._lost = sentence
            while self._futures_by_id:
                name, future = self._futures_by_id.popitem()
                future.set(_failed(name, sentence))
            self._answered.notify_all()

    def _read(self) -> None:
        for answer in _until_broken(self._input):
            with self._answered:
                future = self._futures_by_id.pop(answer.instruction_id, None)
                self._answered.notify_all()
            if future is not None:
                future.set(answer)


def _until_broken(stream: Iterable[Any]) -> Iterator[Any]:
    """Yield what a stream gives until its other end dies, which is reported elsewhere."""
    with contextlib.suppress(grpc.RpcError):
        yield from stream


def _failed(instruction_id: str, sentence: str) -> Any:
    return beam_fn_api_pb2.InstructionResponse(instruction_id=instruction_id, error=sentence)


@WorkerHandler.register_environment(URN, bytes)
class _ProcessHandler(GrpcWorkerHandler):
    """Starts one worker process, and waits for its end in a thread."""

    def __init__(self, token: bytes, state: Any, provision_info: Any, grpc_server: Any) -> None:
        super().__init__(state, provision_info, grpc_server)
        self._group = _groups[token.decode()]
        self._closing = False
        self.control_conn = _Connection()
        grpc_server.control_handler._connections_by_worker_id[self.worker_id] = self.control_conn
        take_in = self.data_conn.set_inputs
        self.data_conn.set_inputs = lambda stream: take_in(_until_broken(stream))

    def start_worker(self) -> None:
        self._process = subprocess.Popen(
            self._group.command,
            stdin=subprocess.DEVNULL,
            env={
                **os.environ,
                "CONTROL_API_SERVICE_DESCRIPTOR": _text(self.control_api_service_descriptor()),
                "LOGGING_API_SERVICE_DESCRIPTOR": _text(self.logging_api_service_descriptor()),
                "PIPELINE_OPTIONS": json_format.MessageToJson(
                    self.provision_info.provision_info.pipeline_options
                ),
                "WORKER_ID": self.worker_id,
            },
        )
        self._waiting = threading.Thread(target=self._wait, name="worker-process", daemon=True)
        self._waiting.start()
        self._group.add(self)

    def kill(self, sentence: str) -> None:
        """Kill the process, and answer the requests to it with an error."""
        self._process.kill()
        self.control_conn.lose(sentence)

    def _wait(self) -> None:
        code = self._process.wait()
        if not self._closing:
            sentence = f"worker process {self._process.pid} {_how(code)}"
            try:
                self._group.lose(sentence)
            finally:
                self.control_conn.lose(sentence)

    def close(self) -> None:
        # A worker that is shut down in the middle of its work closes what its calls still need.
        self.control_conn.wait()
        self._closing = True
        super().close()

    def stop_worker(self) -> None:
        self._waiting.join()


def _kill(handlers: Iterable[_ProcessHandler], sentence: str) -> None:
    for handler in handlers:
        handler.kill(sentence)


def _text(descriptor: Any) -> str:
    return str(text_format.MessageToString(descriptor))


def _how(code: int) -> str:
    """Return how a process ended, by its return code."""
    if code >= 0:
        return f"ended with exit code {code} before its work was done"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    memory = ", as the kernel does when memory runs out" if -code == signal.SIGKILL else ""
    return f"was killed by {name}{memory}"
