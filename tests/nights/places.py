"""Where a catalogue is exported to and where its dataset is: a disk or a store."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from support.cli import Ended, bulkembed
from support.engines import Engine
from support.stores import Store, finish

from nights.catalogue import Night


class Place(Protocol):
    """The input of a job and the root of its outputs, and a way to start commands there."""

    @property
    def input(self) -> str:
        """As `--input` takes it."""
        ...

    @property
    def name(self) -> str:
        """For messages."""
        ...

    def output(self, name: str) -> str:
        """Return a dataset, as `--output` takes it."""
        ...

    def export(self, night: Night) -> None:
        """Replace the whole input by the files of a night."""
        ...

    def call(self, *args: object) -> Ended:
        """Call `bulkembed` with these words."""
        ...

    def fetch(self, output: str) -> Path:
        """Return a local folder with the files of a dataset."""
        ...


@dataclasses.dataclass(frozen=True)
class Disk:
    """A folder of this machine; commands run in this process."""

    folder: Path
    more: tuple[object, ...] = ()
    """More flags of `run`."""
    name: str = "disk"

    @property
    def input(self) -> str:
        return str(self.folder / "in")

    def output(self, name: str) -> str:
        return str(self.folder / name)

    def export(self, night: Night) -> None:
        shutil.rmtree(self.input, ignore_errors=True)
        for name, data in night.contents():
            path = Path(self.input) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def call(self, *args: object) -> Ended:
        return bulkembed(*args, *(self.more if args[0] == "run" else ()))

    def fetch(self, output: str) -> Path:
        return Path(output)


@dataclasses.dataclass(frozen=True)
class DiskOfEngine(Disk):
    """A folder of this machine; runs are executed by an engine."""

    _: dataclasses.KW_ONLY
    engine: Engine

    def call(self, *args: object) -> Ended:
        if args[0] != "run":
            return super().call(*args)
        return self.engine.run(*args[1:], *self.more)


@dataclasses.dataclass(frozen=True)
class Bucket:
    """A folder of a store; each command is a process of its own."""

    store: Store
    folder: str
    fetched: Path
    """Where files of the store are copied to."""
    more: tuple[object, ...] = ()

    @property
    def name(self) -> str:
        return self.store.name

    @property
    def input(self) -> str:
        return f"{self.store.root}/{self.folder}/in"

    def output(self, name: str) -> str:
        return f"{self.store.root}/{self.folder}/{name}"

    def export(self, night: Night) -> None:
        for name in self.store.files(self.input):
            self.store.filesystem.delete_file(self.store.path(f"{self.input}/{name}"))
        for name, data in night.contents():
            self.store.write(f"{self.input}/{name}", data)

    def call(self, *args: object) -> Ended:
        more = self.more if args[0] == "run" else ()
        return finish(called(self.store.environ, *args, *more))

    def fetch(self, output: str) -> Path:
        shutil.rmtree(self.fetched, ignore_errors=True)
        return self.store.fetch(output, self.fetched)


def called(environ: Mapping[str, str], *args: object) -> subprocess.Popen[str]:
    """Start `bulkembed` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "bulkembed", *map(str, args)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environ},
    )  # fmt: skip
