"""Jobs in processes of their own that are killed, and a look at what is left of them."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bulkembed.emulator.server import EmulatorServer
from bulkembed.transforms.dataset.dataset import Dataset
from support.cli import Ended, parts, read

KILLER = Path(__file__).parents[1] / "kill/killer.py"
START_S = 60.0
"""How long a process on a busy machine may take until its first call is answered."""


@dataclasses.dataclass(frozen=True)
class Step:
    """A moment of the commit: just before the `number`-th such event of Python's."""

    event: str
    part: str
    number: int = 1

    def __str__(self) -> str:
        return f"{self.event} {self.part} #{self.number}"


FIRST_STEPS = (
    Step("os.rename", "run.json"),
    Step("os.rename", "files.jsonl"),
    Step("open", ".spill"),
    Step("open", "-part-"),
    Step("os.rename", "/vectors/part-"),
    Step("os.rename", "/dead_letters/part-"),
    Step("os.rename", "/_run/units/"),
    Step("os.remove", ".spill"),
)
"""From the pinning of the digests to the removal of a unit's spill."""
LAST_STEPS = (
    Step("os.rename", "/_run/summaries/"),
    Step("os.rename", "_SUCCESS"),
    Step("os.remove", "lock.json"),
)
"""Those of a run that has nothing more to embed."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One command, started again and again."""

    server: EmulatorServer
    source: Path
    output: Path
    args: tuple[str, ...]

    @property
    def command(self) -> list[str]:
        """What stands behind `bulkembed`."""
        return [
            "run", "--input", str(self.source), "--output", str(self.output),
            "--base-url", self.server.url, "--log-level", "error", *self.args,
        ]  # fmt: skip

    def start(self, step: Step | None = None) -> subprocess.Popen[str]:
        """The job in a process of its own; with a step it kills itself there."""
        driver = ["-m", "bulkembed"]
        if step is not None:
            driver = [str(KILLER), step.event, step.part, str(step.number)]
        return subprocess.Popen(
            [sys.executable, *driver, *self.command],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ),
        )  # fmt: skip

    def finish(self, step: Step | None = None) -> Ended:
        """The job to its end, whatever that is."""
        return ended(self.start(step))

    def signalled(
        self, number: signal.Signals, chance: random.Random, most_s: float
    ) -> tuple[Ended, float]:
        """The job, ended by a signal some time after its first paid call.

        Gives how it ended, and how long that took.
        """
        paid = self.server.stats()["texts"]
        process = self.start()
        wait_for(lambda: self.server.stats()["texts"] > paid or process.poll() is not None)
        time.sleep(chance.uniform(0, most_s))
        asked = time.monotonic()
        process.send_signal(number)
        return ended(process), time.monotonic() - asked


def ended(process: subprocess.Popen[str], timeout: float = 120) -> Ended:
    """How a process ended; negative for a signal."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return Ended(process.returncode, out, err)


def wait_for(what: Callable[[], bool], timeout: float = START_S) -> None:
    """Returns as soon as something is so."""
    until = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.005)


def leftovers(output: Path) -> list[str]:
    """Files that an undisturbed run would not have left."""
    dataset = Dataset.open(str(output))
    found = set(dataset.leftovers(dataset.state()))
    for name in ("_run/spill", "_run/stops"):
        found.update(f"{name}/{one.name}" for one in files_of(output / name))
    found.update(str(path.relative_to(output)) for path in output.rglob(".tmp-*"))
    if (output / "_run/lock.json").exists():
        found.add("_run/lock.json")
    return sorted(found)


def files_of(folder: Path) -> Iterator[Path]:
    """The files of a folder, if there is one."""
    return folder.iterdir() if folder.exists() else itertools.chain()


def same_rows(one: Path, two: Path) -> None:
    """Fails unless two datasets hold the same rows, vectors bit by bit."""
    first, second = read(one), read(two)
    assert first.equals(second)
    assert bool(parts(one, "dead_letters")) == bool(parts(two, "dead_letters"))
    if parts(one, "dead_letters"):
        letters = [read(out, "dead_letters").drop_columns(["attempts"]) for out in (one, two)]
        assert letters[0].equals(letters[1])


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that they did."""
    found: list[int] = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        # A thread may end between the two looks.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for child in map(int, listed.read_text().split()):
                found += [child, *descendants(child)]
    return found


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rsplit(")", 1)[1].split()[0] not in ("Z", "X")
