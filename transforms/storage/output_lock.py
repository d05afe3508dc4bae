"""One run at a time on an output: who holds it, and since when nobody does."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from schemas.errors import OutputError
from transforms.storage import store_lock, whole_files
from transforms.storage.dataset import CLAIMS, LOCK, Dataset
from transforms.storage.lock_owner import LockOwner, locked_by, read_owner

HEARTBEAT_S = 30.0


@contextlib.contextmanager
def held(dataset: Dataset, owner: LockOwner) -> Iterator[LockOwner | None]:
    """Holds the output for one run; gives the dead owner that it was taken over from, if any.

    On a local disk the kernel keeps the lock, and lets go of it when its owner dies, however that
    happens.  An object store has no locks; see `store_lock.held` for what it can promise.

    Raises:
        OutputLocked: another run is at work.
    """
    hold = store_lock.held if dataset.is_on_a_store else _local
    with hold(dataset, owner) as before:
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
            raise locked_by(dataset.root, before)
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
            raise locked_by(str(path.parent.parent), before) from None
        if os.fstat(file).st_nlink:
            return file
        os.close(file)


def _write(file: int, owner: LockOwner) -> None:
    data = owner.encoded()
    os.pwrite(file, data, 0)
    os.ftruncate(file, len(data))


def owner_of(dataset: Dataset) -> LockOwner | None:
    """Who holds an output, as its lock file says; None where nobody does, or the owner is dead."""
    names = [LOCK]
    if dataset.is_on_a_store:
        names = [f"{CLAIMS}/{name}" for name in dataset.names(CLAIMS)]
    owners = (read_owner(dataset, name) for name in names)
    return next((owner for owner in owners if owner is not None and owner.is_alive), None)


def _beat(dataset: Dataset, owner: LockOwner, done: threading.Event) -> None:
    while not done.wait(HEARTBEAT_S):
        data = dataclasses.replace(owner, heartbeat=time.time()).encoded()
        # A heartbeat that is missed does no harm; the next one may pass.
        with contextlib.suppress(OSError, OutputError):
            if dataset.is_on_a_store:
                dataset.write(store_lock.claim_of(owner), data)
            else:
                Path(dataset.path(LOCK)).write_bytes(data)
