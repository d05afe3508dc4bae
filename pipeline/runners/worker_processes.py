"""The worker processes of `--workers`: how Beam starts them, and what happens if one dies.

Beam's own environment for subprocesses starts a shell, and does not notice when a process dies: its
runner would wait for a response forever. Here the launcher waits for each process. If one dies
before its work is done, the run stops, and the runner gets an error for each of its requests to
that worker.

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
from google.protobuf import json_format, text_format

URN = "bulkembed:environment:worker_processes:v1"


class ProcessGroup:
    """The worker processes of one run.

    Args:
        command: starts one of them.
        on_death: called with a message when the first one dies before its work is done, from a
            thread of the group; it must stop the others.
        shutdown_timeout_s: how long the others may take to stop.
    """

    def __init__(
        self, command: Sequence[str], on_death: Callable[[str], None], shutdown_timeout_s: float
    ) -> None:
        self.command = list(command)
        self._on_death = on_death
        self._shutdown_timeout_s = shutdown_timeout_s
        self._lock = threading.Lock()
        self._handlers: list[_ProcessHandler] = []
        self._death: str | None = None

    @property
    def death(self) -> str | None:
        """How the first process died; None if none has died."""
        return self._death

    def add(self, handler: _ProcessHandler) -> None:
        """Add a process; kill it at once if another one has died."""
        with self._lock:
            self._handlers.append(handler)
            if self._death is not None:
                handler.kill(self._death)

    def report_death(self, message: str) -> None:
        """Stop the run because a process died."""
        with self._lock:
            if self._death is not None:
                return
            self._death = message
            handlers = list(self._handlers)
        # Start the timer before `on_death`, which a failing store may delay or prevent.
        timer = threading.Timer(self._shutdown_timeout_s, _kill, (handlers, message))
        timer.daemon = True
        timer.start()
        self._on_death(message)
        for handler in handlers:
            if not handler.control_conn.is_connected:
                handler.kill(message)  # It has not started any work.

    @contextlib.contextmanager
    def runner(self) -> Iterator[FnApiRunner]:
        """Yield Beam's local runner, with processes of this group as its workers."""
        token = secrets.token_hex(8)
        _groups[token] = self
        try:
            yield FnApiRunner(_ProcessEnvironment(token))
        finally:
            del _groups[token]


_groups: dict[str, ProcessGroup] = {}
"""Groups by the payload of their environment, which is all that a worker's handler gets."""


@Environment.register_urn(URN, bytes)
class _ProcessEnvironment(Environment):
    """The environment that names a group of processes in Beam's pipeline description."""

    def __init__(self, token: str, *more: Any) -> None:
        super().__init__(*more)
        self._token = token

    def to_runner_api_parameter(self, _: object) -> tuple[str, bytes]:
        return URN, self._token.encode()

    @staticmethod
    def from_runner_api_parameter(payload: bytes, *more: Any) -> _ProcessEnvironment:
        return _ProcessEnvironment(payload.decode(), *more[:-1])


class _Connection(ControlConnection):
    """The runner's requests to one worker; each gets a response, or an error if it dies."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()
        self._death: str | None = None

    @property
    def is_connected(self) -> bool:
        """Whether the worker has connected."""
        return bool(self._input is not None)

    def push(self, req: Any) -> ControlFuture | None:
        with self._changed:
            if self._death is None or not isinstance(req, beam_fn_api_pb2.InstructionRequest):
                return super().push(req)
        return ControlFuture(req.instruction_id, _failed(req.instruction_id, self._death))

    def wait(self) -> None:
        """Wait for the responses to all requests."""
        with self._changed:
            self._changed.wait_for(lambda: not self._futures_by_id)

    def fail(self, message: str) -> None:
        """Respond to all requests with an error, because the worker has died."""
        with self._changed:
            self._death = message
            while self._futures_by_id:
                name, future = self._futures_by_id.popitem()
                future.set(_failed(name, message))
            self._changed.notify_all()

    def _read(self) -> None:
        for response in _until_broken(self._input):
            with self._changed:
                future = self._futures_by_id.pop(response.instruction_id, None)
                self._changed.notify_all()
            if future is not None:
                future.set(response)


def _until_broken(stream: Iterable[Any]) -> Iterator[Any]:
    """Yield from a stream until its other end dies, which is reported elsewhere."""
    with contextlib.suppress(grpc.RpcError):
        yield from stream


def _failed(instruction_id: str, message: str) -> Any:
    return beam_fn_api_pb2.InstructionResponse(instruction_id=instruction_id, error=message)


@WorkerHandler.register_environment(URN, bytes)
class _ProcessHandler(GrpcWorkerHandler):
    """Starts one worker process, and waits in a thread until it ends."""

    def __init__(self, token: bytes, state: Any, provision_info: Any, grpc_server: Any) -> None:
        super().__init__(state, provision_info, grpc_server)
        self._group = _groups[token.decode()]
        self._closing = False
        self.control_conn = _Connection()
        grpc_server.control_handler._connections_by_worker_id[self.worker_id] = self.control_conn
        set_inputs = self.data_conn.set_inputs
        self.data_conn.set_inputs = lambda stream: set_inputs(_until_broken(stream))

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

    def kill(self, message: str) -> None:
        """Kill the process, and respond to the requests to it with an error."""
        self._process.kill()
        self.control_conn.fail(message)

    def _wait(self) -> None:
        code = self._process.wait()
        if not self._closing:
            message = f"worker process {self._process.pid} {_describe_exit(code)}"
            try:
                self._group.report_death(message)
            finally:
                self.control_conn.fail(message)

    def close(self) -> None:
        # Shutting a worker down during its work closes connections that its requests still need.
        self.control_conn.wait()
        self._closing = True
        super().close()

    def stop_worker(self) -> None:
        self._waiting.join()


def _kill(handlers: Iterable[_ProcessHandler], message: str) -> None:
    for handler in handlers:
        handler.kill(message)


def _text(descriptor: Any) -> str:
    return str(text_format.MessageToString(descriptor))


def _describe_exit(code: int) -> str:
    """Return how a process ended, by its return code."""
    if code >= 0:
        return f"ended with exit code {code} before its work was done"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    memory = " (possibly out of memory)" if -code == signal.SIGKILL else ""
    return f"was killed by {name}{memory}"
