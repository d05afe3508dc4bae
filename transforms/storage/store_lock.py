"""One run at a time on an object store, which can neither lock nor rename."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from schemas.errors import OutputError
from transforms.storage import whole_files
from transforms.storage.dataset import CLAIMS, Dataset
from transforms.storage.lock_owner import DEAD_AFTER_S, LockOwner, locked_by, read_owner


def claim_of(owner: LockOwner) -> str:
    """The name of a run's claim within the dataset."""
    return f"{CLAIMS}/{owner.run_id}.json"


@contextlib.contextmanager
def held(
    dataset: Dataset, owner: LockOwner, dead_after_s: float = DEAD_AFTER_S
) -> Iterator[LockOwner | None]:
    """Holds the output by a claim; gives the dead owner that it was taken over from, if any.

    A run writes its claim first, then lists all claims, and withdraws if it sees another living
    one.  Of two runs the one that lists later sees the other's claim, so both never go on, as
    long as a listing shows what was written before it: S3, Google's store and Azure's do.  Two
    that begin at the same moment may both withdraw.

    The age of a claim is taken between two times of the store's own clock.  An owner that froze
    for longer than `dead_after_s` counts as dead, and may wake up: nothing fences it off.

    Raises:
        OutputLocked: another run is at work.
        OutputError: the store cannot be used, or does not list what was just written.
    """
    mine = claim_of(owner)
    dataset.write(mine, owner.encoded())
    try:
        dead = _others(dataset, mine, dead_after_s)
        dataset.delete(dead)
        yield next(iter(dead.values()), None)
    finally:
        dataset.delete([mine])


def _others(dataset: Dataset, mine: str, dead_after_s: float) -> dict[str, LockOwner | None]:
    """The claims of dead owners; raises OutputLocked if one lives."""
    files = whole_files.list_files(dataset.filesystem, dataset.path(CLAIMS))
    claims = [file for file in files if file.extension == "json" and file.base_name[0] != "."]
    written = {f"{CLAIMS}/{claim.base_name}": claim.mtime_ns or 0 for claim in claims}
    if mine not in written:
        raise OutputError(f"{dataset.root}: the store does not list {mine}, just written")
    others: dict[str, LockOwner | None] = {}
    for name in written.keys() - {mine}:
        other = _owner(dataset, name)
        is_fresh = written[mine] - written[name] < dead_after_s * 1e9
        if is_fresh and (other is None or other.may_be_alive):
            raise locked_by(dataset.root, other)
        others[name] = other
    return others


def _owner(dataset: Dataset, name: str) -> LockOwner | None:
    """Who wrote a claim; None where it cannot be read, as while it is being withdrawn."""
    try:
        return read_owner(dataset, name)
    except OutputError:
        return None
