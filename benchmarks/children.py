"""The cost of a command: time, CPU seconds and peak memory of its whole process tree."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

SAMPLE_EVERY_S = 0.05
MAX_SAMPLE_EVERY_S = 1.0
SAMPLES_PER_DURATION = 400
"""Samples become rarer as a command runs on: twenty a second would take a tenth of a core."""
WITH_BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}
"""Lets Python keep compiled modules, as where a package is installed."""
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
ROOT = Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """Wall and CPU seconds (user and system), the peak memory of the tree, and what it reads.

    Pages that processes share are counted once per process. Bytes are those of system calls on
    files and pipes, whether a page was cached or not; sockets are left out.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float
    read_mb: float = 0.0
    written_mb: float = 0.0


def cost_of(command: Sequence[object], environ: Mapping[str, str] | None = None) -> Cost:
    """Run a command and return its cost.

    Raises:
        RuntimeError: it failed; the message has the end of its output.
    """
    with tempfile.TemporaryFile("w+") as output:
        started = time.monotonic()
        process = subprocess.Popen(
            list(map(str, command)), cwd=ROOT, stdout=output, stderr=output,
            env={**os.environ, "GEMINI_API_KEY": "benchmark", **(environ or {})},
        )  # fmt: skip
        sampler = _Sampler(process.pid)
        sampler.start()
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - started
        sampler.done.set()
        sampler.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"{command[0]} failed: {output.read()[-2000:]}")
    # `wait4` leaves out workers that their parent did not wait for; the samples have them.
    cpu_s = max(used.ru_utime + used.ru_stime, sum(sampler.cpu_s.values()))
    read, written = (sum(each) / 1e6 for each in zip(*sampler.io.values(), strict=True))
    return Cost(wall_s, cpu_s, sampler.peak_bytes / 1e6, read, written)


class _Sampler(threading.Thread):
    """Samples a process and its descendants, twenty times a second at first."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self._root = root
        self.done = threading.Event()
        self.cpu_s: dict[int, float] = {}
        self.peak_bytes = 0
        self.io: dict[int, tuple[int, int]] = {root: (0, 0)}

    def run(self) -> None:
        started, pause_s = time.monotonic(), SAMPLE_EVERY_S
        while not self.done.wait(pause_s):
            elapsed_s = time.monotonic() - started
            pause_s = max(SAMPLE_EVERY_S, elapsed_s / SAMPLES_PER_DURATION)
            pause_s = min(MAX_SAMPLE_EVERY_S, pause_s)
            found = _processes()
            tree = {self._root}
            for pid in sorted(found):
                if found[pid][0] in tree:
                    tree.add(pid)
            running = [pid for pid in tree if pid in found]
            self.cpu_s.update({pid: found[pid][1] for pid in running})
            self.io.update({pid: _io_bytes(pid) or self.io.get(pid, (0, 0)) for pid in running})
            together = sum(found[pid][2] for pid in running)
            # Of the first process the system knows what was between two samples.
            self.peak_bytes = max(self.peak_bytes, together, _peak_bytes(self._root))


def _processes() -> dict[int, tuple[int, float, int]]:
    """Return the parent, CPU seconds and resident bytes of each process by its id."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS
        found[int(folder.name)] = (int(fields[1]), cpu_s, int(fields[21]) * _PAGE_BYTES)
    return found


def _peak_bytes(pid: int) -> int:
    """Return the most resident bytes that a process has had; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _io_bytes(pid: int) -> tuple[int, int] | None:
    """Return the bytes that a process has read and written; None if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return None
    counts = dict(line.split(": ") for line in lines)
    return int(counts["rchar"]), int(counts["wchar"])
