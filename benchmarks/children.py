"""What a command costs: its time, the CPU seconds and the memory of its whole process tree."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

LOOK_EVERY_S = 0.05
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
ROOT = Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """Wall and CPU seconds (user and system), and the most memory of the tree at one moment.

    Pages that processes of the tree share are counted once for each.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float


def cost_of(command: Sequence[object], environ: Mapping[str, str] | None = None) -> Cost:
    """Runs a command to its end.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    with tempfile.TemporaryFile("w+") as said:
        started = time.monotonic()
        process = subprocess.Popen(
            list(map(str, command)), cwd=ROOT, stdout=said, stderr=said,
            env={**os.environ, "GEMINI_API_KEY": "benchmark", **(environ or {})},
        )  # fmt: skip
        watch = _Watch(process.pid)
        watch.start()
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - started
        watch.over.set()
        watch.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{command[0]} failed: {said.read()[-2000:]}")
    # Of workers that nobody waited for, only the looks at them tell.
    cpu_s = max(used.ru_utime + used.ru_stime, sum(watch.cpu_s.values()))
    return Cost(wall_s, cpu_s, watch.peak_bytes / 1e6)


class _Watch(threading.Thread):
    """Looks at a process and its descendants, twenty times a second."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self._root = root
        self.over = threading.Event()
        self.cpu_s: dict[int, float] = {}
        self.peak_bytes = 0

    def run(self) -> None:
        while not self.over.wait(LOOK_EVERY_S):
            found = _processes()
            tree = {self._root}
            for pid in sorted(found):
                if found[pid][0] in tree:
                    tree.add(pid)
            there = [pid for pid in tree if pid in found]
            self.cpu_s.update({pid: found[pid][1] for pid in there})
            self.peak_bytes = max(self.peak_bytes, sum(found[pid][2] for pid in there))


def _processes() -> dict[int, tuple[int, float, int]]:
    """Parent, CPU seconds and resident bytes of each process, by its id."""
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
