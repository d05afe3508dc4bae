"""What the worker processes of a run are at, in a small file each that its launcher reads."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import orjson

from bulkembed.schemas.live import Live, LiveCounts
from bulkembed.schemas.serialization import from_plain, to_plain
from bulkembed.transforms.units.engine import Engine, running_engines


class LocalEngines:
    """The engines of this process; those that are closed count on."""

    def __init__(self) -> None:
        self._seen: list[Engine] = []

    def read(self) -> Live:
        """What they have done, and what those that run are at."""
        running = running_engines()
        self._seen += [engine for engine in running if engine not in self._seen]
        done = sum((engine.counts() for engine in self._seen), LiveCounts())
        return sum((engine.live() for engine in running), Live(counts=done, in_flight=0))

    def close(self) -> None:
        """There is nothing to end."""


EVERY_S = 1.0
_SUFFIX = ".live"


def keep_writing(folder: Path) -> None:
    """Writes this process's numbers once a second, in a thread that ends with the process."""
    threading.Thread(target=_keep_writing, args=(folder,), name="progress", daemon=True).start()


def _keep_writing(folder: Path) -> None:
    # Imported late: Beam's harness is told from here on what its threads are to do.
    pass

    here, never = LocalEngines(), threading.Event()
    while not never.wait(EVERY_S):
        # A full disk costs the progress, not the rows; so does a folder that went with its run.
        with contextlib.suppress(OSError):
            write(folder, here.read())


def write(folder: Path, live: Live) -> None:
    """Replaces the file of this process.

    Raises:
        OSError: it cannot be written.
    """
    path = folder / f"{os.getpid()}{_SUFFIX}"
    new = path.with_suffix(".new")
    new.write_bytes(orjson.dumps(to_plain(live)))
    new.replace(path)


def read(folder: Path) -> Iterator[Live]:
    """The numbers of all processes that have written some."""
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        with contextlib.suppress(OSError):
            yield from_plain(orjson.loads(path.read_bytes()), Live)
