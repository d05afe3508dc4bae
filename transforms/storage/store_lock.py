"""One run at a time by claims: on object stores, and on disks that have no locks."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping

import pyarrow.fs as pafs

from schemas.errors import OutputError
from transforms.storage import whole_files
from transforms.storage.dataset import CLAIMS, LOCK, Dataset
from transforms.storage.lock_owner import DEAD_AFTER_S, LockOwner, locked_by, read_owner

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
def held(
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
    files = whole_files.list_files(dataset.filesystem, dataset.path(CLAIMS))
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
