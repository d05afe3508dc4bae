"""One run at a time on an output: who holds it, and since when nobody does."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import logging
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from schemas.errors import OutputError
from transforms.storage import store_lock, whole_files
from transforms.storage.dataset import LOCK, Dataset
from transforms.storage.file_locks import has_no_locks
from transforms.storage.lock_owner import LockOwner, locked_by, read_owner
from transforms.storage.processes import this_process
from transforms.storage.store_lock import HEARTBEAT_S, Sleep

log = logging.getLogger("bulkembed")

TRIES = 10
TRY_EVERY_S = 0.1
"""`bulkembed status` looks at a lock by holding it for a moment."""


@contextlib.contextmanager
def held(
    dataset: Dataset, owner: LockOwner, sleep: Sleep = time.sleep
) -> Iterator[LockOwner | None]:
    """Hold the output for one run; give the dead owner that it was taken over from, if any.

    On a local disk the kernel keeps the lock, and frees it when its owner dies, however that
    happens.  Object stores, and disks of which the kernel says that they have no locks, are held
    by claims; see `store_lock.held` for what these can promise.

    Raises:
        OutputLocked: another run is at work.
    """
    file = None if dataset.is_on_a_store else _locked_file(dataset, sleep)
    if file is None:
        hold = store_lock.held(dataset, owner, sleep=sleep)
    else:
        hold = _by_the_kernel(dataset, owner, file, sleep)
    with hold as before:

        def write(now: LockOwner) -> None:
            if file is None:
                dataset.write(store_lock.claim_of(owner), now.encoded())
            else:
                _write(file, now)

        with _beating(owner, write):
            yield before


@contextlib.contextmanager
def _by_the_kernel(
    dataset: Dataset, owner: LockOwner, file: int, sleep: Sleep
) -> Iterator[LockOwner | None]:
    path = Path(dataset.path(LOCK))
    try:
        before = LockOwner.decoded(os.pread(file, 1 << 16, 0))
        if before is not None and not _is_of_this_kernel(before):
            # The kernel of another host may know nothing of this lock.
            mtime = os.fstat(file).st_mtime_ns
            store_lock.dead_owner(dataset, LOCK, mtime, _time_of_disk(path), sleep=sleep)
        _write(file, owner)
        try:
            found = {**store_lock.claims(dataset), LOCK: os.fstat(file).st_mtime_ns}
            dead = store_lock.take_over_dead(dataset, found, LOCK, sleep=sleep)
            yield before or dead
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(file)


def _is_of_this_kernel(owner: LockOwner) -> bool:
    """Return whether this machine's kernel would know of the lock if the owner were alive."""
    if owner.process.boot:
        return owner.process.boot == this_process().boot
    return owner.host == socket.gethostname()


def _time_of_disk(path: Path) -> int:
    """Return the time in nanoseconds by the clock of the file system of a path."""
    with tempfile.TemporaryFile(dir=path.parent, prefix=whole_files.TEMP_PREFIX) as file:
        file.write(b".")
        file.flush()
        return os.fstat(file.fileno()).st_mtime_ns


def _locked_file(dataset: Dataset, sleep: Sleep) -> int | None:
    """The lock's file, open and locked; None where the file system has no locks."""
    path = Path(dataset.path(LOCK))
    for left in reversed(range(TRIES)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise whole_files.output_error(str(path), error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file).st_nlink:
                return file
            os.close(file)  # Its owner removed it meanwhile.
        except BlockingIOError:
            before = LockOwner.decoded(os.pread(file, 1 << 16, 0))
            os.close(file)
            if not left:
                raise locked_by(dataset.root, before, None) from None
            sleep(TRY_EVERY_S)
        except OSError as error:
            os.close(file)
            if not has_no_locks(error):
                raise whole_files.output_error(str(path), error) from error
            log.warning(
                "%s cannot be locked (%s): claims in _run/claims/ keep other runs away, as on "
                "object stores", path, os.strerror(error.errno or 0),
            )  # fmt: skip
            return None
    raise locked_by(dataset.root, None, None)


def _write(file: int, owner: LockOwner) -> None:
    data = owner.encoded()
    os.pwrite(file, data, 0)
    os.ftruncate(file, len(data))


@contextlib.contextmanager
def _beating(owner: LockOwner, write: Callable[[LockOwner], object]) -> Iterator[None]:
    """Renew the owner's claim at every heartbeat."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(HEARTBEAT_S):
            # One missed heartbeat does no harm; the next one may succeed.
            with contextlib.suppress(OSError, OutputError):
                write(dataclasses.replace(owner, heartbeat=time.time()))

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def owner_of(dataset: Dataset) -> LockOwner | None:
    """Return who is at work on an output; None where nobody is, or its owner is dead.

    A claim whose process cannot be seen from here is judged by its age on this machine's clock.
    """
    for name, mtime in store_lock.claims(dataset).items():
        owner = read_owner(dataset, name)
        is_locked = _is_locked(Path(dataset.path(name))) if name == LOCK else None
        if is_locked:
            return owner or LockOwner("?", "of an unknown kind")
        if owner is None or (is_locked is False and _is_of_this_kernel(owner)):
            continue
        if owner.is_alive(time.time() - mtime / 1e9):
            return owner
    return None


def _is_locked(path: Path) -> bool | None:
    """Whether a process holds a file; None where its file system has no locks."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(file)
    return False
