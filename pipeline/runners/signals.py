"""SIGINT, SIGTERM and SIGHUP: the first one ends the run in good order, the second one at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from bulkembed.schemas.stop import ExitCode

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LAST_S = 1.5
"""What the end of a run that has nothing in the air may take."""


class Interrupted(KeyboardInterrupt):
    """A signal, for work that has nothing in the air.

    A class of its own: where a plain KeyboardInterrupt passes through an `exec`, as in an import,
    `python -m` ends by SIGINT in the end, whatever the exit code (Python 3.11 to 3.13).
    """


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that end a run: SIGHUP is not one of them under `nohup`."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return SIGNALS[:-1] if ignored else SIGNALS


def exit_on_interrupt() -> None:
    """End the process at SIGINT with exit code 130 and without a traceback, from now on.

    For the time in which nothing is in flight and nothing has to be put in order.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda number, _: os._exit(128 + number))


@contextlib.contextmanager
def raise_interrupts() -> Iterator[None]:
    """Raise Interrupted at a signal: for work that has nothing in flight.

    Threads that scan the input would hold the process: it ends without them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(_: int, __: FrameType | None) -> None:
        timer = threading.Timer(LAST_S, exit_now, (int(ExitCode.INCOMPLETE),))
        timer.daemon = True
        timer.start()
        raise Interrupted

    before = {number: signal.signal(number, handle) for number in stop_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def handled(on_first: Callable[[str], None], on_second: Callable[[int], None]) -> Iterator[None]:
    """Call `on_first` with the signal's name, and at the second one `on_second` with an exit code.

    `on_second` has to end the process.
    A second SIGHUP changes nothing: when a terminal closes, both the kernel and the shell send one.
    Outside the main thread signals are not ours to handle, and nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def handle(number: int, _: FrameType | None) -> None:
        nonlocal asked
        if asked and number == signal.SIGHUP:
            return
        if asked:
            on_second(128 + number)
        else:
            asked = True
            on_first(signal.Signals(number).name)

    before = {number: signal.signal(number, handle) for number in stop_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_now(code: int) -> NoReturn:
    """Ends this process and the workers that it started, whatever they are at.

    Where there is no /proc, workers see within some seconds that their launcher is gone.
    """
    for child in _descendants(os.getpid()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    os._exit(code)


def _descendants(pid: int) -> list[int]:
    """Processes that a process started, and those that they did: Beam starts workers by a shell."""
    found: list[int] = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, listed.read_text().split()):
                found += [child, *_descendants(child)]
    return found
