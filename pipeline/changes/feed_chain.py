"""The change feeds since a run or a time."""

from __future__ import annotations

import datetime as dt
import re

from bulkembed.schemas.errors import ConfigError
from bulkembed.transforms.dataset.manifest import Manifest, RunChanges, StateOrigin

_RUN_TIME = re.compile(r"(?:^|-)(\d{8}T\d{6})Z-")


def feeds_since(output: str, manifest: Manifest, since: str | None) -> tuple[RunChanges, ...]:
    """Return the runs after a state, in order.

    Args:
        output: the dataset, for messages.
        manifest: its manifest.
        since: the id of a run, which stands for the state when it ended; or a time in ISO 8601, in
            UTC if it has no zone. None for the state before the last run that changed rows.

    Raises:
        ConfigError: it is neither, or the changes since then are not known.
    """
    runs = manifest.changes
    if since is None:
        if not runs and manifest.origin.run_id:
            raise _not_known(output, manifest, "what the last run changed is not known")
        return runs[-1:]
    for place, run in enumerate(runs):
        if run.run_id == since:
            return runs[place + 1 :]
    if since == manifest.run_id:
        return ()
    if since == manifest.origin.run_id:
        return runs
    time = _time_of(since)
    if time is None:
        raise ConfigError(
            f"invalid --since {since!r}. Use the id of a run, as `bulkembed parts --json` prints "
            "it, or a time such as 2026-11-27T03:00."
        )
    if manifest.origin.time and not _is_known(time, manifest.origin):
        raise _not_known(output, manifest, f"the changes since {since} are not known")
    return tuple(run for run in runs if dt.datetime.fromisoformat(run.time) > time)


def _not_known(output: str, manifest: Manifest, what: str) -> ConfigError:
    origin = manifest.origin
    if origin.expired:
        why = (
            f"Lists of changes are kept as long as --keep-changes of `bulkembed run` says, and "
            f"those until {origin.time} were deleted"
        )
    else:
        why = (
            f"Changes are recorded from {origin.time} on: before that, there was no dataset, "
            "--overwrite replaced it, a part of it was damaged, or an earlier version wrote it"
        )
    return ConfigError(
        f"{output}: {what}. {why}. Load the whole dataset again, from the files that `bulkembed "
        f"parts` lists. Later use --since {manifest.run_id}."
    )


def _is_known(time: dt.datetime, origin: StateOrigin) -> bool:
    """Return whether the state at a time is `origin` or a later one."""
    begin = dt.datetime.fromisoformat(origin.time)
    return time > begin or (time == begin and bool(origin.run_id))


def _time_of(since: str) -> dt.datetime | None:
    """Return a time, or that in the id of a run; None if it is neither."""
    found = _RUN_TIME.search(since)
    try:
        time = (
            dt.datetime.strptime(found[1], "%Y%m%dT%H%M%S")
            if found
            else dt.datetime.fromisoformat(since.strip())
        )
    except ValueError:
        return None
    return time.replace(tzinfo=dt.UTC) if time.tzinfo is None else time
