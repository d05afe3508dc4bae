"""Where the output of a history is: a folder of this machine, or a bucket."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from support.stores import Store


class Place(Protocol):
    """An output, looked at and damaged from outside."""

    @property
    def uri(self) -> str:
        """As `--output` takes it."""
        ...

    @property
    def environ(self) -> Mapping[str, str]:
        """What a command needs to reach it."""
        ...

    def snapshot(self) -> dict[str, bytes]:
        """All files by their names."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Writes a file."""
        ...

    def delete(self, name: str) -> None:
        """Deletes a file, if there is one."""
        ...

    def at_request(self, request: tuple[str, str, int], act: Callable[[], None]) -> None:
        """Acts when the n-th such request comes in; a disk has none."""
        ...


@dataclasses.dataclass(frozen=True)
class Disk:
    """A folder."""

    folder: Path
    environ: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def uri(self) -> str:
        return str(self.folder)

    def snapshot(self) -> dict[str, bytes]:
        found = {}
        for path in sorted(self.folder.rglob("*")):
            # A stopped run's processes may still remove files of their own.
            with contextlib.suppress(FileNotFoundError):
                if path.is_file():
                    found[str(path.relative_to(self.folder))] = path.read_bytes()
        return found

    def write(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def delete(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    def at_request(self, request: tuple[str, str, int], act: Callable[[], None]) -> None:
        raise ValueError("requests are a store's")


@dataclasses.dataclass(frozen=True)
class Bucket:
    """A folder of a store."""

    store: Store
    folder: str

    @property
    def uri(self) -> str:
        return f"{self.store.root}/{self.folder}"

    @property
    def environ(self) -> Mapping[str, str]:
        return self.store.environ

    def snapshot(self) -> dict[str, bytes]:
        found = {}
        for name in self.store.files(self.uri):
            with contextlib.suppress(FileNotFoundError):
                found[name] = self.store.read(f"{self.uri}/{name}")
        return found

    def write(self, name: str, data: bytes) -> None:
        self.store.write(f"{self.uri}/{name}", data)

    def delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.store.filesystem.delete_file(self.store.path(f"{self.uri}/{name}"))

    def at_request(self, request: tuple[str, str, int], act: Callable[[], None]) -> None:
        method, part, number = request
        left = iter(range(number - 1))

        def look(come: str, path: str, _: int) -> None:
            path = unquote(path)
            if come == method and self.folder in path and part in path and next(left, None) is None:
                self.store.proxy.fault = lambda *_: None
                act()

        self.store.proxy.fault = look
