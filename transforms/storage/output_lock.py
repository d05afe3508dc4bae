"""One run at a time on an output: who holds it, and since when nobody does."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pyarrow.fs as pafs

from schemas.errors import OutputError, OutputLocked
from transforms.storage import whole_files
from transforms.storage.dataset import LOCK, Dataset

HEARTBEAT_S = 30.0
DEAD_AFTER_S = 300.0
"""An owner on another host counts as dead when its last heartbeat is so old."""


@dataclasses.dataclass(frozen=True, slots=True)
class LockOwner:
    """Who holds an output; `heartbeat` in epoch seconds."""

    run_id: str
    runner: str
    host: str = dataclasses.field(default_factory=socket.gethostname)
    pid: int = dataclasses.field(default_factory=os.getpid)
    heartbeat: float = dataclasses.field(default_factory=time.time)

    @property
    def is_fresh(self) -> bool:
        """Whether the owner showed itself lately."""
        return time.time() - self.heartbeat < DEAD_AFTER_S

    @property
    def is_alive(self) -> bool:
        """Whether the owner is at work, as far as can be told from this host."""
        if self.host != socket.gethostname():
            return self.is_fresh
        return Path(f"/proc/{self.pid}").exists() or not Path("/proc").exists()

    def encoded(self) -> bytes:
        """As JSON."""
        return orjson.dumps(dataclasses.asdict(self), option=orjson.OPT_INDENT_2)

    @classmethod
    def decoded(cls, data: bytes) -> LockOwner | None:
        """From JSON; None for anything else, such as the empty file of a dying owner."""
        try:
            return cls(**orjson.loads(data))
        except (ValueError, TypeError):
            return None


@contextlib.contextmanager
def held(dataset: Dataset, owner: LockOwner) -> Iterator[LockOwner | None]:
    """Holds the output for one run; gives the dead owner that it was taken over from, if any.

    On a local disk the kernel keeps the lock, and lets go of it when its owner dies, however that
    happens.  On an object store, which has no locks, the file is advisory: two runs that begin
    within the same second may both go on.

    Raises:
        OutputLocked: another run is at work.
    """
    local = isinstance(dataset.filesystem, pafs.LocalFileSystem)
    with (_local if local else _advisory)(dataset, owner) as before:
        beats = threading.Event()
        thread = threading.Thread(
            target=_beat, args=(dataset, owner, beats), name="heartbeat", daemon=True
        )
        thread.start()
        try:
            yield before
        finally:
            beats.set()
            thread.join()


@contextlib.contextmanager
def _local(dataset: Dataset, owner: LockOwner) -> Iterator[LockOwner | None]:
    path = Path(dataset.path(LOCK))
    file = _locked_file(path)
    try:
        before = LockOwner.decoded(os.pread(file, 1 << 16, 0))
        if before is not None and before.host != owner.host and before.is_fresh:
            raise _locked(dataset, before)
        _write(file, owner)
        try:
            yield before
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(file)


def _locked_file(path: Path) -> int:
    """The lock's file, open and locked; opened anew where an owner unlinked it meanwhile."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise whole_files.output_error(str(path), error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            before = LockOwner.decoded(os.pread(file, 1 << 16, 0))
            os.close(file)
            raise _locked_by(str(path.parent.parent), before) from None
        if os.fstat(file).st_nlink:
            return file
        os.close(file)


def _write(file: int, owner: LockOwner) -> None:
    data = owner.encoded()
    os.pwrite(file, data, 0)
    os.ftruncate(file, len(data))


@contextlib.contextmanager
def _advisory(dataset: Dataset, owner: LockOwner) -> Iterator[LockOwner | None]:
    before = _read(dataset)
    if before is not None and before.is_fresh:
        raise _locked(dataset, before)
    dataset.write(LOCK, owner.encoded())
    holder = _read(dataset)
    if holder is not None and holder.run_id != owner.run_id:
        raise _locked(dataset, holder)
    try:
        yield before
    finally:
        dataset.delete([LOCK])


def owner_of(dataset: Dataset) -> LockOwner | None:
    """Who holds an output, as its lock file says; None where nobody does, or the owner is dead."""
    owner = _read(dataset)
    return owner if owner is not None and owner.is_alive else None


def _read(dataset: Dataset) -> LockOwner | None:
    data = whole_files.read_bytes(dataset.filesystem, dataset.path(LOCK))
    return None if data is None else LockOwner.decoded(data)


def _beat(dataset: Dataset, owner: LockOwner, done: threading.Event) -> None:
    local = isinstance(dataset.filesystem, pafs.LocalFileSystem)
    while not done.wait(HEARTBEAT_S):
        data = dataclasses.replace(owner, heartbeat=time.time()).encoded()
        # A heartbeat that is missed does no harm; the next one may pass.
        with contextlib.suppress(OSError, OutputError):
            if local:
                Path(dataset.path(LOCK)).write_bytes(data)
            else:
                dataset.write(LOCK, data)


def _locked(dataset: Dataset, owner: LockOwner) -> OutputLocked:
    return _locked_by(dataset.root, owner)


def _locked_by(root: str, owner: LockOwner | None) -> OutputLocked:
    who = "another run"
    if owner is not None:
        who = f"run {owner.run_id} ({owner.runner}, process {owner.pid} on {owner.host})"
    return OutputLocked(
        f"{root} is being written by {who}; wait for it to end, or choose another --output"
    )
