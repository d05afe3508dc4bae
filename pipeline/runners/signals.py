"""SIGINT, SIGTERM and SIGHUP: the first one stops a run cleanly, the second one at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from bulkembed.schemas.stop import ExitCode

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
EXIT_TIMEOUT_S = 1.5
"""How long a command with no request in flight may take to end."""


RESEND_S = 0.02
"""How soon a signal is sent again whose exception was lost."""


class Interrupted(KeyboardInterrupt):
    """A signal during work that has no request in flight.

    Not a plain KeyboardInterrupt: if that passes through an `exec`, as in an import, `python -m`
    kills itself with SIGINT at its end, whatever the exit code (Python 3.11 to 3.13).
    """


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that stop a run; SIGHUP is not one of them under `nohup`."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return SIGNALS[:-1] if ignored else SIGNALS


def exit_on_interrupt() -> None:
    """From now on, let SIGINT end the process with exit code 130 and without a traceback.

    For times in which no request is in flight and nothing has to be cleaned up.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda number, _: os._exit(128 + number))


@contextlib.contextmanager
def raise_interrupts() -> Iterator[None]:
    """Raise Interrupted at a signal, for work that has no request in flight.

    The process ends without waiting for threads that scan the input.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    received: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        if not received:
            _start_timer(EXIT_TIMEOUT_S, exit_now, int(ExitCode.INCOMPLETE))
        received.append(number)
        raise Interrupted

    def resend(lost: Any) -> None:
        # Python drops what is raised in a callback of a weak reference or in a finalizer.
        if isinstance(lost.exc_value, Interrupted):
            _start_timer(RESEND_S, os.kill, os.getpid(), received[-1])
        else:
            before(lost)

    before, sys.unraisablehook = sys.unraisablehook, resend
    try:
        with _installed(handle):
            yield
    finally:
        sys.unraisablehook = before


def _start_timer(after_s: float, function: Callable[..., object], *args: object) -> None:
    timer = threading.Timer(after_s, function, args)
    timer.daemon = True
    timer.start()


@contextlib.contextmanager
def handled(on_first: Callable[[str], None], on_second: Callable[[int], None]) -> Iterator[None]:
    """Call `on_first` with the name of the first signal, and `on_second` at the second one.

    `on_second` gets an exit code, and must end the process. A second SIGHUP is ignored: when a
    terminal closes, both the kernel and the shell send one. Outside the main thread, where signals
    cannot be handled, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stopping = False

    def handle(number: int, _: FrameType | None) -> None:
        nonlocal stopping
        if stopping and number == signal.SIGHUP:
            return
        if stopping:
            on_second(128 + number)
        else:
            stopping = True
            on_first(signal.Signals(number).name)

    with _installed(handle):
        yield


@contextlib.contextmanager
def _installed(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in stop_signals()}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def exit_now(code: int) -> NoReturn:
    """End this process and the workers that it started immediately.

    Without /proc, workers notice within some seconds that their launcher has ended.
    """
    for child in _descendants(os.getpid()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    os._exit(code)


def _descendants(pid: int) -> list[int]:
    """Return all descendants of a process; Beam starts workers by a shell."""
    found: list[int] = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, listed.read_text().split()):
                found += [child, *_descendants(child)]
    return found
