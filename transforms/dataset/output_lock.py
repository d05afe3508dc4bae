"""One run at a time on an output: who holds it, and since when nobody does."""

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
from pathlib import Path
from typing import Any

import orjson
import pyarrow.fs as pafs

from bulkembed.schemas.errors import OutputError, OutputLocked
from bulkembed.schemas.process import ProcessId
from bulkembed.transforms.dataset import atomic_files
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import CLAIMS, LOCK, TEMP_PREFIX
from bulkembed.transforms.dataset.processes import is_gone, this_process

_NOT_SUPPORTED = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})


def has_no_locks(error: OSError) -> bool:
    """Return whether an error of `flock` says that the file system has no locks.

    Lustre without `-o flock`, NFS without its lock service and some FUSE file systems say so.
    """
    return error.errno in _NOT_SUPPORTED


@contextlib.contextmanager
def locked(file: int, path: Path) -> Iterator[None]:
    """Hold a file against the other processes of this host.

    Where its file system has no locks, a file of the same name's digest in the temporary folder
    stands in for it.

    Args:
        file: the open file.
        path: its path.

    Raises:
        OSError: neither can be locked.
    """
    held = _lock(file, path)
    try:
        yield
    finally:
        if held == file:
            fcntl.flock(file, fcntl.LOCK_UN)
        else:
            os.close(held)


def _lock(file: int, path: Path) -> int:
    """The locked file: the one that was asked for, or its stand-in."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if not has_no_locks(error):
            raise
        file = _open_stand_in(path)
        fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _open_stand_in(path: Path) -> int:
    name = hashlib.blake2b(os.fsencode(path.absolute()), digest_size=16).hexdigest()
    place = Path(tempfile.gettempdir()) / f"bulkembed-{os.getuid()}-{name}.lock"
    return os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


DEAD_AFTER_S = 300.0
"""Age of the last heartbeat at which an owner counts as dead whose process cannot be seen."""


@dataclasses.dataclass(frozen=True, slots=True)
class LockOwner:
    """Who holds an output; times in epoch seconds, by the owner's clock."""

    run_id: str
    runner: str
    host: str = dataclasses.field(default_factory=socket.gethostname)
    process: ProcessId = dataclasses.field(default_factory=this_process)
    since: float = dataclasses.field(default_factory=time.time)
    heartbeat: float = dataclasses.field(default_factory=time.time)
    identity: str = dataclasses.field(default_factory=lambda: secrets.token_hex(8))
    """Tells owners apart whatever they are called."""

    @property
    def name(self) -> str:
        """The owner as a message names it."""
        return f"run {self.run_id} ({self.runner}, process {self.process.pid} on {self.host})"

    def is_alive(self, age_s: float, dead_after_s: float = DEAD_AFTER_S) -> bool:
        """Return whether the owner is at work: by its process if it can be seen, else by its age.

        Args:
            age_s: of its last heartbeat, by the clock of the file system that holds it.
            dead_after_s: the age from which it is dead.
        """
        gone = is_gone(self.process)
        return age_s < dead_after_s if gone is None else not gone

    def encoded(self) -> bytes:
        """The owner as JSON."""
        return orjson.dumps(dataclasses.asdict(self), option=orjson.OPT_INDENT_2)

    @classmethod
    def decoded(cls, data: bytes) -> LockOwner | None:
        """The owner from JSON; None for anything else, such as the empty file of a dying owner."""
        try:
            content: dict[str, Any] = orjson.loads(data)
            process = content.get("process") or {"pid": content.get("pid", 0)}
            heartbeat = float(content["heartbeat"])
            return cls(
                run_id=str(content["run_id"]),
                runner=str(content["runner"]),
                host=str(content["host"]),
                process=ProcessId(**process),
                since=float(content.get("since", heartbeat)),
                heartbeat=heartbeat,
                identity=str(content.get("identity", "")),
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


def read_owner(dataset: Dataset, name: str) -> LockOwner | None:
    """Return who wrote a lock file; None where it is not there, or damaged."""
    data = atomic_files.read_bytes(dataset.filesystem, dataset.path(name))
    return None if data is None else LockOwner.decoded(data)


def locked_by(root: str, owner: LockOwner | None, expires: float | None) -> OutputLocked:
    """Return the error for an output that somebody else holds.

    Args:
        root: of the dataset.
        owner: who holds it; None where its claim cannot be read.
        expires: until when the claim holds if its owner is dead, in epoch seconds; None where the
            kernel frees it as soon as the process ends.
    """
    who = "another run" if owner is None else f"{owner.name}, since {_utc(owner.since)}"
    if expires is None:
        until = "the lock is free as soon as that process ends"
    else:
        until = f"if that run is dead, its claim ends at {_utc(expires)}"
    return OutputLocked(
        f"{root} is being written by {who}; {until}. Wait for it to end, or choose another --output"
    )


def _utc(epoch_s: float) -> str:
    try:
        at = dt.datetime.fromtimestamp(epoch_s, dt.UTC)
    except (ValueError, OverflowError, OSError):
        return "an unknown time"
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")


log = logging.getLogger("bulkembed")

HEARTBEAT_S = 30.0
WATCH_S = 2.5 * HEARTBEAT_S
"""How long a claim dated in the future is watched; its owner renews it meanwhile, if alive."""
WATCHES = 15

Sleep = Callable[[float], None]


def claim_of(owner: LockOwner) -> str:
    """The name of a run's claim within the dataset."""
    return f"{CLAIMS}/{owner.run_id}.json"


@contextlib.contextmanager
def claim_held(
    dataset: Dataset,
    owner: LockOwner,
    dead_after_s: float = DEAD_AFTER_S,
    sleep: Sleep = time.sleep,
) -> Iterator[LockOwner | None]:
    """Hold the output by a claim; give the dead owner that it was taken over from, if any.

    A run writes its claim first, then lists all claims, and withdraws if it sees another living
    one.  Of two runs the one that lists later sees the other's claim, so both never go on, as
    long as a listing shows what was written before it: S3, Google's store and Azure's do.  Two
    that begin at the same moment may both withdraw.

    An owner that froze for longer than `dead_after_s` on another machine counts as dead, and may
    wake up: the run number in `run.json` keeps it from committing.

    Raises:
        OutputLocked: another run is at work.
        OutputError: the store cannot be used, or does not list what was just written.
    """
    mine = claim_of(owner)
    dataset.write(mine, owner.encoded())
    try:
        found = claims(dataset)
        if mine not in found:
            raise OutputError(f"{dataset.root}: the store does not list {mine}, just written")
        yield take_over_dead(dataset, found, mine, dead_after_s, sleep)
    finally:
        dataset.delete([mine])


def claims(dataset: Dataset) -> dict[str, int]:
    """Return the claims by name, and the lock file of a disk, each with its time in nanoseconds."""
    files = atomic_files.list_files(dataset.filesystem, dataset.path(CLAIMS))
    found = {
        f"{CLAIMS}/{file.base_name}": file.mtime_ns or 0
        for file in files
        if file.extension == "json" and file.base_name[0] != "."
    }
    if not dataset.is_on_a_store:
        lock = dataset.filesystem.get_file_info(dataset.path(LOCK))
        if lock.type == pafs.FileType.File:
            found[LOCK] = lock.mtime_ns or 0
    return found


def take_over_dead(
    dataset: Dataset,
    found: Mapping[str, int],
    mine: str,
    dead_after_s: float = DEAD_AFTER_S,
    sleep: Sleep = time.sleep,
) -> LockOwner | None:
    """Delete the claims of dead owners; give one of those.

    Ages are taken between times of the file system's own clock.  A claim that is dated in the
    future, as by a clock that was set back, is dead if nobody renews it.

    Args:
        dataset: whose claims they are.
        found: the claims, listed after `mine` was written.
        mine: the name of the claim that asks.
        dead_after_s: the age from which a claim is dead whose process cannot be seen.
        sleep: waits so many seconds.

    Raises:
        OutputLocked: an owner is alive.
    """
    dead = {
        name: dead_owner(dataset, name, mtime, found[mine], dead_after_s, sleep)
        for name, mtime in found.items()
        if name != mine
    }
    dataset.delete(dead.keys() - {LOCK})  # Another process may be about to lock that file.
    return next((owner for owner in dead.values() if owner is not None), None)


def dead_owner(
    dataset: Dataset,
    name: str,
    mtime: int,
    now: int,
    dead_after_s: float = DEAD_AFTER_S,
    sleep: Sleep = time.sleep,
) -> LockOwner | None:
    """Return the owner behind a claim, which is dead; None where nobody knows who it was.

    Args:
        dataset: whose claim it is.
        name: of the claim.
        mtime: its time, in nanoseconds.
        now: the time of the same clock.
        dead_after_s: the age from which a claim is dead whose process cannot be seen.
        sleep: waits so many seconds.

    Raises:
        OutputLocked: the owner is alive.
    """
    owner = _owner(dataset, name)
    if owner is None and name == LOCK:
        return None  # Whoever is about to write it looks at the claims after that.
    age_s = (now - mtime) / 1e9
    is_alive = age_s < dead_after_s if owner is None else owner.is_alive(age_s, dead_after_s)
    if is_alive and age_s < -dead_after_s:
        is_alive = _is_renewed(dataset, name, mtime, owner, sleep)
    if is_alive:
        expires = time.time() + max(dead_after_s - max(age_s, 0.0), 0.0)
        raise locked_by(dataset.root, owner, expires)
    return owner


def _is_renewed(
    dataset: Dataset, name: str, mtime: int, before: LockOwner | None, sleep: Sleep
) -> bool:
    """Return whether a claim's owner renews it within a few heartbeats."""
    log.warning("%s is dated in the future; it is watched for %.0f s", name, WATCH_S)
    for _ in range(WATCHES):
        sleep(WATCH_S / WATCHES)
        if claims(dataset).get(name) != mtime or _owner(dataset, name) != before:
            return True
    return False


def _owner(dataset: Dataset, name: str) -> LockOwner | None:
    """Who wrote a claim; None where it cannot be read, as while it is being withdrawn."""
    try:
        return read_owner(dataset, name)
    except OutputError:
        return None


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
        hold = claim_held(dataset, owner, sleep=sleep)
    else:
        hold = _by_the_kernel(dataset, owner, file, sleep)
    with hold as before:

        def write(now: LockOwner) -> None:
            if file is None:
                dataset.write(claim_of(owner), now.encoded())
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
            dead_owner(dataset, LOCK, mtime, _time_of_disk(path), sleep=sleep)
        _write(file, owner)
        try:
            found = {**claims(dataset), LOCK: os.fstat(file).st_mtime_ns}
            dead = take_over_dead(dataset, found, LOCK, sleep=sleep)
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
    with tempfile.TemporaryFile(dir=path.parent, prefix=TEMP_PREFIX) as file:
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
            raise atomic_files.output_error(str(path), error) from error
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
                raise atomic_files.output_error(str(path), error) from error
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
    for name, mtime in claims(dataset).items():
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
