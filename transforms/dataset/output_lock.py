"""The lock on an output: only one run at a time writes a dataset.

On a local disk the kernel keeps a lock on `_run/lock.json`, and frees it when its owner ends.
Object stores, and disks without file locks, use claims: files in `_run/claims/` that their owners
renew. A lock keeps a second run from starting; the run number in `run.json` keeps a run that lost
its lock from committing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import errno
import fcntl
import hashlib
import logging
import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import orjson
import pyarrow.fs as pafs

from bulkembed.schemas.errors import OutputError, OutputLocked
from bulkembed.schemas.job import ProcessId
from bulkembed.schemas.serialization import from_plain, to_plain
from bulkembed.transforms.dataset import atomic_files
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import CLAIMS, LOCK, TEMP_PREFIX, is_unfinished
from bulkembed.transforms.dataset.processes import is_gone, this_process

DEAD_AFTER_S = 300.0
"""The age of the last heartbeat at which an owner counts as dead if its process is not visible."""
HEARTBEAT_S = 30.0
WATCH_S = 2.5 * HEARTBEAT_S
"""How long a claim with a date in the future is watched; a running owner renews it meanwhile."""
WATCHES = 15
ATTEMPTS = 10
RETRY_EVERY_S = 0.1
"""Attempts are needed because `bulkembed status` locks the file for a moment while it checks it."""
_OWNER_BYTES = 1 << 16
_NOT_SUPPORTED = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})

Sleep = Callable[[float], None]

log = logging.getLogger("bulkembed")


@dataclasses.dataclass(frozen=True, slots=True)
class LockOwner:
    """The run that owns an output; times in epoch seconds, by the owner's clock."""

    run_id: str
    runner: str
    host: str = dataclasses.field(default_factory=socket.gethostname)
    process: ProcessId = dataclasses.field(default_factory=this_process)
    since: float = dataclasses.field(default_factory=time.time)
    heartbeat: float = dataclasses.field(default_factory=time.time)
    identity: str = dataclasses.field(default_factory=lambda: secrets.token_hex(8))
    """Distinguishes owners of equal names."""

    @property
    def name(self) -> str:
        """The owner's name in messages."""
        return f"run {self.run_id} ({self.runner}, process {self.process.pid} on {self.host})"

    def is_alive(self, age_s: float, dead_after_s: float = DEAD_AFTER_S) -> bool:
        """Return whether the owner is running: by its process if visible, else by its age.

        Args:
            age_s: the age of its last heartbeat, by the clock of the file system.
            dead_after_s: the age from which it counts as dead.
        """
        gone = is_gone(self.process)
        return age_s < dead_after_s if gone is None else not gone

    def to_json(self) -> bytes:
        """Return the owner as JSON."""
        return orjson.dumps(to_plain(self), option=orjson.OPT_INDENT_2)

    @classmethod
    def from_json(cls, data: bytes) -> LockOwner | None:
        """Return the owner of JSON; None for other content, such as the empty file of a killed one.

        Earlier versions wrote the process as a number, no start and no identity.
        """
        try:
            content: dict[str, Any] = orjson.loads(data)
            # Not the defaults of the class, which are those of a new owner in this process.
            older = {"host": content["host"], "since": content["heartbeat"], "identity": ""}
            process = content.get("process") or {"pid": content.get("pid", 0)}
            return from_plain({**older, **content, "process": process}, cls)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


@contextlib.contextmanager
def acquire(
    dataset: Dataset, owner: LockOwner, sleep: Sleep = time.sleep
) -> Iterator[LockOwner | None]:
    """Hold the lock of an output for one run; yield the dead owner that had it before, if any.

    Args:
        dataset: the output.
        owner: the run.
        sleep: waits for some seconds.

    Raises:
        OutputLocked: another run has the lock.
        OutputError: the output cannot be used.
    """
    file = None if dataset.is_on_a_store else _lock_file(dataset, sleep)
    if file is None:
        lock = acquire_by_claim(dataset, owner, sleep=sleep)
    else:
        lock = _with_locked_file(dataset, owner, file, sleep)
    with lock as before:

        def write(renewed: LockOwner) -> None:
            if file is None:
                dataset.write(claim_name(owner), renewed.to_json())
            else:
                _write_owner(file, renewed)

        with _heartbeat(owner, write):
            yield before


def current_owner(dataset: Dataset) -> LockOwner | None:
    """Return the running owner of an output; None if there is none.

    If its process is not visible from here, its age by this machine's clock decides.
    """
    for name, mtime in list_claims(dataset).items():
        owner = read_owner(dataset, name)
        is_locked = _is_locked(Path(dataset.path(name))) if name == LOCK else None
        if is_locked:
            return owner or LockOwner("?", "of an unknown kind")
        if owner is None or (is_locked is False and _is_of_this_kernel(owner)):
            continue
        if owner.is_alive(time.time() - mtime / 1e9):
            return owner
    return None


def read_owner(dataset: Dataset, name: str) -> LockOwner | None:
    """Return the owner in a lock file or claim; None if that is missing or damaged."""
    data = atomic_files.read_bytes(dataset.filesystem, dataset.path(name))
    return None if data is None else LockOwner.from_json(data)


def locked_error(root: str, owner: LockOwner | None, expires: float | None) -> OutputLocked:
    """Return the error for an output that another run owns.

    Args:
        root: the path of the dataset.
        owner: the owner; None if its claim cannot be read.
        expires: when the claim of a dead owner ends, in epoch seconds; None if the kernel frees
            the lock as soon as the process ends.
    """
    who = "another run" if owner is None else f"{owner.name}, since {_utc(owner.since)}"
    if expires is None:
        until = "The lock is released as soon as that process ends"
    else:
        until = f"If that run is dead, its claim ends at {_utc(expires)}"
    return OutputLocked(
        f"{root} is being written by {who}. {until}. Wait for it to end, or choose another "
        "--output."
    )


def _utc(epoch_s: float) -> str:
    try:
        at = dt.datetime.fromtimestamp(epoch_s, dt.UTC)
    except (ValueError, OverflowError, OSError):
        return "an unknown time"
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")


@contextlib.contextmanager
def _heartbeat(owner: LockOwner, write: Callable[[LockOwner], object]) -> Iterator[None]:
    """Renew the owner's file at every heartbeat."""
    done = threading.Event()

    def renew() -> None:
        while not done.wait(HEARTBEAT_S):
            # One missed heartbeat does no harm; the next one may succeed.
            with contextlib.suppress(OSError, OutputError):
                write(dataclasses.replace(owner, heartbeat=time.time()))

    thread = threading.Thread(target=renew, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


# Locks of the kernel, on a local disk.


@contextlib.contextmanager
def _with_locked_file(
    dataset: Dataset, owner: LockOwner, file: int, sleep: Sleep
) -> Iterator[LockOwner | None]:
    path = Path(dataset.path(LOCK))
    try:
        before = LockOwner.from_json(os.pread(file, _OWNER_BYTES, 0))
        if before is not None and not _is_of_this_kernel(before):
            # The kernel of another host may not know of this lock.
            mtime = os.fstat(file).st_mtime_ns
            check_dead(dataset, LOCK, mtime, _time_of_disk(path), sleep=sleep)
        _write_owner(file, owner)
        try:
            found = {**list_claims(dataset), LOCK: os.fstat(file).st_mtime_ns}
            dead = delete_dead_claims(dataset, found, LOCK, sleep=sleep)
            yield before or dead
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(file)


def _is_of_this_kernel(owner: LockOwner) -> bool:
    """Return whether this machine's kernel would know of the lock if the owner were running."""
    if owner.process.boot:
        return owner.process.boot == this_process().boot
    return owner.host == socket.gethostname()


def _time_of_disk(path: Path) -> int:
    """Return the time in nanoseconds by the clock of the file system of a path."""
    with tempfile.TemporaryFile(dir=path.parent, prefix=TEMP_PREFIX) as file:
        file.write(b".")
        file.flush()
        return os.fstat(file.fileno()).st_mtime_ns


def _lock_file(dataset: Dataset, sleep: Sleep) -> int | None:
    """Return the lock file, open and locked; None if the file system has no locks."""
    path = Path(dataset.path(LOCK))
    for attempts_left in reversed(range(ATTEMPTS)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise atomic_files.output_error(str(path), error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file).st_nlink:
                return file
            os.close(file)  # Its owner deleted it meanwhile.
        except BlockingIOError:
            before = LockOwner.from_json(os.pread(file, _OWNER_BYTES, 0))
            os.close(file)
            if not attempts_left:
                raise locked_error(dataset.root, before, None) from None
            sleep(RETRY_EVERY_S)
        except OSError as error:
            os.close(file)
            if not has_no_locks(error):
                raise atomic_files.output_error(str(path), error) from error
            log.warning(
                "%s cannot be locked (%s). As on object stores, claims in _run/claims/ keep other "
                "runs away.", path, os.strerror(error.errno or 0),
            )  # fmt: skip
            return None
    raise locked_error(dataset.root, None, None)


def _write_owner(file: int, owner: LockOwner) -> None:
    data = owner.to_json()
    os.pwrite(file, data, 0)
    os.ftruncate(file, len(data))


def _is_locked(path: Path) -> bool | None:
    """Return whether a process has locked a file; None if its file system has no locks."""
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


# Claims, on object stores and on disks without locks.


def claim_name(owner: LockOwner) -> str:
    """Return the name of a run's claim within the dataset."""
    return f"{CLAIMS}/{owner.run_id}.json"


@contextlib.contextmanager
def acquire_by_claim(
    dataset: Dataset,
    owner: LockOwner,
    dead_after_s: float = DEAD_AFTER_S,
    sleep: Sleep = time.sleep,
) -> Iterator[LockOwner | None]:
    """Hold an output by a claim; yield the dead owner that had it before, if any.

    A run writes its claim, then lists all claims, and withdraws its own if another owner is
    running. Of two runs, the one that lists later sees the claim of the other, so never do both
    continue. That needs a store whose listings show what was written before, as S3, Google Cloud
    Storage and Azure do. Two runs that start at the same moment may both withdraw.

    An owner on another machine that was suspended for longer than `dead_after_s` counts as dead,
    but may wake up: the run number in `run.json` keeps it from committing.

    Raises:
        OutputLocked: another run has the output.
        OutputError: the store cannot be used, or does not list the claim.
    """
    mine = claim_name(owner)
    dataset.write(mine, owner.to_json())
    try:
        files = _claim_files(dataset)
        found = _finished_claims(dataset, files)
        if mine not in found:
            raise OutputError(f"{dataset.root}: the store does not list {mine}, just written")
        before = delete_dead_claims(dataset, found, mine, dead_after_s, sleep)
        _delete_unfinished_claims(dataset, files, found[mine], dead_after_s)
        yield before
    finally:
        dataset.delete([mine])


def list_claims(dataset: Dataset) -> dict[str, int]:
    """Return the claims by name, and a disk's lock file, each with its time in nanoseconds."""
    return _finished_claims(dataset, _claim_files(dataset))


def _claim_files(dataset: Dataset) -> dict[str, int]:
    """Return the files in the folder of claims, unfinished ones too, with their times."""
    files = atomic_files.list_files(dataset.filesystem, dataset.path(CLAIMS))
    return {f"{CLAIMS}/{file.base_name}": file.mtime_ns or 0 for file in files}


def _finished_claims(dataset: Dataset, files: Mapping[str, int]) -> dict[str, int]:
    found = {
        name: mtime
        for name, mtime in files.items()
        if name.endswith(".json") and not name.startswith(f"{CLAIMS}/.")
    }
    if not dataset.is_on_a_store:
        lock = dataset.filesystem.get_file_info(dataset.path(LOCK))
        if lock.type == pafs.FileType.File:
            found[LOCK] = lock.mtime_ns or 0
    return found


def delete_dead_claims(
    dataset: Dataset,
    found: Mapping[str, int],
    mine: str,
    dead_after_s: float = DEAD_AFTER_S,
    sleep: Sleep = time.sleep,
) -> LockOwner | None:
    """Delete the claims of dead owners; return one of these owners.

    Ages are differences between times of the file system's own clock. A claim with a date in the
    future, as after a clock was set back, is dead if nobody renews it.

    Args:
        dataset: the output.
        found: the claims, listed after `mine` was written.
        mine: the name of this run's claim.
        dead_after_s: the age from which a claim is dead if its process is not visible.
        sleep: waits for some seconds.

    Raises:
        OutputLocked: an owner is running.
    """
    dead = {
        name: check_dead(dataset, name, mtime, found[mine], dead_after_s, sleep)
        for name, mtime in found.items()
        if name != mine
    }
    dataset.delete(dead.keys() - {LOCK})  # Another process may be about to lock that file.
    return next((owner for owner in dead.values() if owner is not None), None)


def _delete_unfinished_claims(
    dataset: Dataset, files: Mapping[str, int], now: int, dead_after_s: float
) -> None:
    """Delete the temporary files of processes that were killed while they wrote a claim.

    Those of running processes stay: they list the claims next, and withdraw.
    """
    dead = []
    for name, mtime in files.items():
        if not is_unfinished(PurePosixPath(name).name):
            continue
        age_s = (now - mtime) / 1e9
        owner = _read_owner_if_possible(dataset, name)  # None while nothing is written.
        is_old = age_s >= dead_after_s
        if is_old if owner is None else not owner.is_alive(age_s, dead_after_s):
            dead.append(name)
    dataset.delete(dead)


def check_dead(
    dataset: Dataset,
    name: str,
    mtime: int,
    now: int,
    dead_after_s: float = DEAD_AFTER_S,
    sleep: Sleep = time.sleep,
) -> LockOwner | None:
    """Return the dead owner of a claim; None if its content does not say who it was.

    Args:
        dataset: the output.
        name: the name of the claim.
        mtime: the time of the claim, in nanoseconds.
        now: the current time of the same clock.
        dead_after_s: the age from which a claim is dead if its process is not visible.
        sleep: waits for some seconds.

    Raises:
        OutputLocked: the owner is running.
    """
    owner = _read_owner_if_possible(dataset, name)
    if owner is None and name == LOCK:
        return None  # Whoever is about to write it lists the claims after that.
    age_s = (now - mtime) / 1e9
    is_alive = age_s < dead_after_s if owner is None else owner.is_alive(age_s, dead_after_s)
    if is_alive and age_s < -dead_after_s:
        is_alive = _is_renewed(dataset, name, mtime, owner, sleep)
    if is_alive:
        expires = time.time() + max(dead_after_s - max(age_s, 0.0), 0.0)
        raise locked_error(dataset.root, owner, expires)
    return owner


def _is_renewed(
    dataset: Dataset, name: str, mtime: int, before: LockOwner | None, sleep: Sleep
) -> bool:
    """Return whether the owner of a claim renews it within a few heartbeats."""
    log.warning("%s has a date in the future. Watching it for %.0f s.", name, WATCH_S)
    for _ in range(WATCHES):
        sleep(WATCH_S / WATCHES)
        is_changed = list_claims(dataset).get(name) != mtime
        if is_changed or _read_owner_if_possible(dataset, name) != before:
            return True
    return False


def _read_owner_if_possible(dataset: Dataset, name: str) -> LockOwner | None:
    """Return the owner in a claim; None if it cannot be read, as while it is being withdrawn."""
    try:
        return read_owner(dataset, name)
    except OutputError:
        return None


# Locks of single files.


def has_no_locks(error: OSError) -> bool:
    """Return whether an error of `flock` means that the file system has no locks.

    Examples are Lustre without `-o flock`, NFS without its lock service and some FUSE systems.
    """
    return error.errno in _NOT_SUPPORTED


@contextlib.contextmanager
def file_lock(file: int, path: Path) -> Iterator[None]:
    """Lock a file against the other processes of this host.

    If its file system has no locks, a file in the temporary folder is locked in its place.

    Args:
        file: the open file.
        path: its path.

    Raises:
        OSError: neither file can be locked.
    """
    locked = _lock(file, path)
    try:
        yield
    finally:
        if locked == file:
            fcntl.flock(file, fcntl.LOCK_UN)
        else:
            os.close(locked)


def _lock(file: int, path: Path) -> int:
    """Return the locked file: the given one, or the one in its place."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if not has_no_locks(error):
            raise
        file = _open_substitute(path)
        fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _open_substitute(path: Path) -> int:
    name = hashlib.blake2b(os.fsencode(path.absolute()), digest_size=16).hexdigest()
    place = Path(tempfile.gettempdir()) / f"bulkembed-{os.getuid()}-{name}.lock"
    return os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
