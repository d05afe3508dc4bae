"""Commands started from the warm parent or by a new interpreter, each in a session of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
HERE = Path(__file__).parent
START_S = 120.0
STOP_S = 20.0
Event = tuple[str, str, int]


@dataclasses.dataclass
class Command:
    """A running or ended command; `code` None while it runs, negative for a signal."""

    pid: int
    out: Path
    err: Path
    code: int | None = None
    popen: subprocess.Popen[bytes] | None = None
    over: threading.Event = dataclasses.field(default_factory=threading.Event)

    def poll(self) -> int | None:
        """The exit code, if it has ended."""
        if self.popen is not None:
            self.code = self.popen.poll()
        return self.code

    def wait(self, timeout_s: float) -> int | None:
        """The exit code; None where it has not ended in time."""
        if self.popen is None:
            self.over.wait(timeout_s)
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(timeout_s)
        return self.poll()

    def signal(self, number: int) -> None:
        """To the launcher alone, if it has not ended."""
        if self.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def signal_all(self, number: int) -> None:
        """To all processes of its session."""
        launcher = [] if self.poll() is not None else [self.pid]
        for pid in {*launcher, *self.processes()}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop_all(self) -> None:
        """Stop all processes of its session; they have stopped when this returns, or are gone."""
        until = time.monotonic() + STOP_S
        self.signal_all(signal.SIGSTOP)
        while not all(map(_has_stopped, self.processes())):
            assert time.monotonic() < until, "a process does not stop"
            time.sleep(0.002)
            self.signal_all(signal.SIGSTOP)  # One may have been started meanwhile.

    def processes(self) -> list[int]:
        """The processes of its session that have not ended."""
        listed = (path.name for path in Path("/proc").iterdir())
        pids = (int(name) for name in listed if name.isdigit())
        return sorted(pid for pid in pids if _session(pid) == self.pid)

    def workers(self) -> list[int]:
        """Those of them that are worker processes of `--workers`."""
        return [
            pid
            for pid in self.processes()
            if "bulkembed.pipeline.runners.worker" in _command_line(pid)
        ]

    @property
    def said(self) -> str:
        """Its standard error."""
        return self.err.read_text(errors="replace") if self.err.exists() else ""

    @property
    def summary(self) -> str:
        """What it wrote to standard output; nothing if it was killed before it was opened."""
        return self.out.read_text(errors="replace") if self.out.exists() else ""


def _session(pid: int) -> int | None:
    """The session of a process that is there and no zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] in ("Z", "X") else int(fields[3])


def _has_stopped(pid: int) -> bool:
    """Whether all threads of a process have stopped, or it is gone."""
    try:
        stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:
        return False  # A thread ended meanwhile: look again.
    return all(stat.rsplit(")", 1)[1].split()[0] in ("T", "t", "Z", "X") for stat in stats)


def _command_line(pid: int) -> str:
    """Its words; nothing for the shell that started a worker."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    return "" if words[0].endswith("sh") else " ".join(words)


class Starter:
    """Starts commands; a context manager that ends the warm parent."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """With the environment of all commands."""
        # A library for matrices that starts threads would be there only in part after a fork.
        self.environ = {**os.environ, **environ, "OPENBLAS_NUM_THREADS": "1"}
        self._commands: dict[int, Command] = {}
        self._ended: dict[int, int] = {}
        self._lock = threading.Lock()
        self._begun: list[int] = []
        self._answers = threading.Semaphore(0)

    def __enter__(self) -> Starter:
        environ = {**self.environ, "PYTHONPATH": str(TESTS)}
        self._parent = subprocess.Popen(
            [sys.executable, str(HERE / "warm.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environ,
        )  # fmt: skip
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        assert self._answers.acquire(timeout=START_S), "the warm parent does not start"
        self._begun.clear()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.close()
        try:
            self._parent.wait(10)
        finally:
            self._parent.kill()
            self._listener.join(10)
            assert self._parent.stdout is not None
            self._parent.stdout.close()

    def _listen(self) -> None:
        assert self._parent.stdout is not None
        for line in self._parent.stdout:
            answer: dict[str, int] = json.loads(line)
            with self._lock:
                if "code" not in answer:
                    self._begun.append(answer.get("pid", 0))
                    self._answers.release()
                    continue
                self._ended[answer["pid"]] = answer["code"]
                self._tell_ended(answer["pid"])

    def _tell_ended(self, pid: int) -> None:
        command = self._commands.get(pid)
        if command is not None and pid in self._ended:
            command.code = self._ended.pop(pid)
            command.over.set()

    def start(
        self,
        args: Sequence[str],
        log: Path,
        environ: Mapping[str, str],
        *,
        real: bool = False,
        event: Event | None = None,
    ) -> Command:
        """A command; its streams go to `log` with `.out` and `.err` behind it."""
        out, err = log.with_suffix(".out"), log.with_suffix(".err")
        if real and event is None:
            return self._start_real(args, environ, out, err)
        request: dict[str, Any] = {
            "args": list(args), "out": str(out), "err": str(err), "event": event,
            "environ": dict(environ),
        }  # fmt: skip
        assert self._parent.stdin is not None
        self._parent.stdin.write(json.dumps(request).encode() + b"\n")
        self._parent.stdin.flush()
        assert self._answers.acquire(timeout=START_S), "the warm parent does not answer"
        with self._lock:
            command = Command(self._begun.pop(), out, err)
            self._commands[command.pid] = command
            self._tell_ended(command.pid)
        return command

    def finish(
        self, args: Sequence[object], log: Path, *, event: Event | None = None, most_s: float = 200
    ) -> Command:
        """A command with a key, and its end; no process of it is left."""
        command = self.start([*map(str, args)], log, {"GEMINI_API_KEY": "a-key"}, event=event)
        try:
            assert command.wait(most_s) is not None, f"it hangs: {command.said}"
        finally:
            end_all(command)
        return command

    def _start_real(
        self, args: Sequence[str], environ: Mapping[str, str], out: Path, err: Path
    ) -> Command:
        with out.open("wb") as out_file, err.open("wb") as err_file:
            popen = subprocess.Popen(
                [sys.executable, "-m", "bulkembed", *args], stdin=subprocess.DEVNULL,
                stdout=out_file, stderr=err_file, env={**self.environ, **environ},
                start_new_session=True,
            )  # fmt: skip
        return Command(popen.pid, out, err, popen=popen)


def wait_until_gone(command: Command, timeout_s: float) -> list[int]:
    """The processes of a command that are still there after some time."""
    until = time.monotonic() + timeout_s
    while (left := command.processes()) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def end_all(command: Command) -> None:
    """Ends whatever a test left behind."""
    command.signal_all(signal.SIGKILL)
