"""Emulators and jobs in their own processes, and the emulator's counts."""

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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2

SAMPLE_EVERY_S = 0.25
DIM = 768
"""Small, so that the two cores that the emulator and the job share are not the limit."""
ROOT = Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def server_of(module: str, *arguments: object) -> Iterator[str]:
    """Run a module of the benchmarks that prints its address at first; yield the address."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


class Emulator:
    """A `bulkembed emulator` process, whose counts are sampled four times a second."""

    def __init__(self, *options: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bulkembed", "emulator", *map(str, options)],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.started_s = time.time()
        self.url = self._process.stdout.readline().split()[-1]
        self._client = httpx2.Client(trust_env=False, timeout=30)
        self.samples: list[dict[str, Any]] = []
        self._closed = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()

    def stats(self) -> dict[str, Any]:
        """Return its counts; `at_s` is the time."""
        found: dict[str, Any] = self._client.get(f"{self.url}/stats").json()
        found["at_s"] = time.time()
        return found

    def set_clock(self, offset_s: float) -> None:
        """Set its clock ahead."""
        self._client.post(f"{self.url}/clock", json={"offset_s": offset_s}).raise_for_status()

    def at(self, elapsed_s: float, what: str) -> float:
        """Return a count as it was `elapsed_s` after the first text was counted."""
        first = next((one["first_counted_s"] for one in self.samples if one["first_counted_s"]), 0)
        seen = [one[what] for one in self.samples if one["at_s"] <= first + elapsed_s]
        return float(seen[-1]) if seen else 0.0

    def texts_between(self, from_s: int, until_s: int) -> int:
        """Return the texts counted in a range of seconds after the first one."""
        return sum(
            texts for second, texts in self.stats()["timeline"] if from_s <= second < until_s
        )

    def close(self) -> None:
        """End the process."""
        self._closed.set()
        self._sampler.join()
        self._client.close()
        self._process.terminate()
        self._process.wait()

    def _sample(self) -> None:
        while not self._closed.wait(SAMPLE_EVERY_S):
            with contextlib.suppress(httpx2.HTTPError):
                self.samples.append(self.stats())


@contextlib.contextmanager
def emulator(*options: object) -> Iterator[Emulator]:
    """Run an emulator."""
    server = Emulator(*options)
    try:
        yield server
    finally:
        server.close()


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """The exit code and the output of a process."""

    code: int
    text: str


class Job:
    """A `bulkembed run` process; its output goes to a file next to its dataset.

    Args:
        url: the emulator's.
        source: a Parquet file.
        home: a folder of the scenario; runs with the same folder share quota files.
        options: more options of `bulkembed run`.
        output: name of the dataset in `home`.
        clock_offset_s: how far its clock is ahead.
    """

    def __init__(
        self, url: str, source: Path, home: Path, *options: object,
        output: str = "out", clock_offset_s: float = 0.0,
    ) -> None:  # fmt: skip
        home.mkdir(parents=True, exist_ok=True)
        self._log = home / f"{output}.err"
        self.output = home / output
        environ = {
            **os.environ,
            "XDG_CACHE_HOME": str(home / "cache"),
            "GEMINI_API_KEY": "benchmark",
            "BULKEMBED_CLOCK_OFFSET_S": str(clock_offset_s),
        }
        command = [
            sys.executable, "-m", "bulkembed", "run", "--input", source, "--output", self.output,
            "--base-url", url, "--dim", DIM, *options,
        ]  # fmt: skip
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                list(map(str, command)), cwd=ROOT, env=environ, stdout=log, stderr=log
            )

    def wait(self, timeout_s: float = 1500) -> Ended:
        """Wait until it ends by itself."""
        code = self._process.wait(timeout_s)
        return Ended(code, self._log.read_text())

    def stop(self) -> Ended:
        """Stop it cleanly."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        return self.wait(60)

    @property
    def running(self) -> bool:
        """Whether it is running."""
        return self._process.poll() is None

    def rows(self) -> list[int]:
        """Return the rows that each run committed, by their summaries."""
        found = sorted((self.output / "_run" / "summaries").glob("*.json"))
        return [json.loads(one.read_bytes())["run"]["embedded"] for one in found]


def script(module: str, *args: object) -> subprocess.Popen[str]:
    """Start a module of this folder in its own process; it prints one JSON object at its end."""
    environ = {**os.environ, "GEMINI_API_KEY": "benchmark"}
    return subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{module}", *map(str, args)],
        cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def result(process: subprocess.Popen[str], timeout_s: float = 1500) -> dict[str, Any]:
    """Return what a script has printed."""
    out, _ = process.communicate(timeout=timeout_s)
    found: dict[str, Any] = json.loads(out.strip().splitlines()[-1]) if out.strip() else {}
    return found
