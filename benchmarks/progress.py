"""The cost of the live panel: the same job on a terminal with and without it, in turns.

    python -m benchmarks.progress [--repeat 3] [--rows 40000]

Prints the CPU seconds (user and system) of each run, and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import os
import pty
import statistics
import tempfile
from pathlib import Path

from benchmarks.processes import emulator
from benchmarks.speed import PYTHON, remove
from benchmarks.texts import Texts

LEVELS = {"panel": "info", "none": "warning"}


def cpu_s_on_a_terminal(words: list[str]) -> float:
    """Return the CPU seconds of a command in the foreground of a terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execv(words[0], words)
    try:
        while os.read(terminal, 1 << 16):
            pass
    except OSError:  # Linux raises it when the other end is closed.
        pass
    _, status, used = os.wait4(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Run the benchmark and print its result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeat", type=int, default=3, help="runs of each, for the median")
    parser.add_argument("--rows", type=int, default=40_000)
    args = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in LEVELS}
    with (
        tempfile.TemporaryDirectory(prefix="bench-progress-") as folder,
        emulator("--canned") as server,
    ):
        source = Texts(Path(folder)).write_short("rows", args.rows, 100)
        output = Path(folder) / "out"
        words = ("run", "--input", source, "--output", output, "--base-url", server.url)
        for _ in range(args.repeat):
            for name, level in LEVELS.items():
                remove(output)
                command = [PYTHON, "-m", "bulkembed", *map(str, words), "--dim", "768"]
                found[name].append(cpu_s_on_a_terminal([*command, "--log-level", level]))
                print(f"{name:6} CPU {found[name][-1]:.2f} s", flush=True)
    panel, none = (statistics.median(found[name]) for name in LEVELS)
    print(f"panel {panel:.2f} s, none {none:.2f} s: {panel / none:.3f}")


if __name__ == "__main__":
    main()
