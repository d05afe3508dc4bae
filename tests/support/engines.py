"""Jobs on a real engine of Beam's, as a user would start them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from support.cli import Ended
from support.killing import descendants, ended

WORKER = "apache_beam.runners.worker.sdk_worker_main"
TIMEOUT_S = 240.0
BUSY_S = 240.0
"""How long an engine, and workers that install what is staged, may take to start."""
PATIENCE_S = 45.0
"""How long an engine may take to see that its worker is gone; Spark's local engine never does."""


@dataclasses.dataclass(frozen=True)
class Engine:
    """One engine, and Beam's flags that make it work here."""

    name: str
    flags: tuple[str, ...]

    @contextlib.contextmanager
    def started(self, *args: object) -> Iterator[subprocess.Popen[str]]:
        """`bulkembed run` on the engine, in a process of its own that does not outlive the test."""
        runner = f"{self.name.capitalize()}Runner"
        words = ["run", *map(str, args), "--runner", runner, "--", *self.flags]
        process = subprocess.Popen(
            [sys.executable, "-m", "bulkembed", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        with process:
            try:
                yield process
            finally:
                below = descendants(process.pid) if process.poll() is None else []
                process.kill()
                for pid in below:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    def run(self, *args: object) -> Ended:
        """The same to its end."""
        with self.started(*args) as process:
            return ended(process, TIMEOUT_S)

    def with_flags(self, *flags: str) -> Engine:
        """The same engine with more flags."""
        return dataclasses.replace(self, flags=(*self.flags, *flags))


def workers_of(pid: int) -> list[int]:
    """The processes below another one that run Beam's Python worker."""
    return [child for child in descendants(pid) if WORKER in command_of(child)]


def command_of(pid: int) -> str:
    """A process's command line; empty for one that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_over(process: subprocess.Popen[str], within_s: float = 0) -> bool:
    """Whether a command ends within some time."""
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def files_with_the_key(key: str, *folders: Path) -> list[Path]:
    """What was written, staged, or left by workers, and holds a key."""
    return [
        path
        for folder in folders
        for path in own_files(folder)
        if key.encode() in path.read_bytes()
    ]


def own_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        ours = not {"image", "lib", "lib64", "bin"} & set(path.relative_to(folder).parts)
        if ours and path.is_file() and path.suffix != ".jar":
            yield path
