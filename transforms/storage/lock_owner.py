"""Who holds an output, as its lock file or claim says, and whether that owner is still at work."""

from __future__ import annotations

import dataclasses
import datetime as dt
import secrets
import socket
import time
from typing import Any

import orjson

from schemas.errors import OutputLocked
from schemas.process import ProcessId
from transforms.storage import whole_files
from transforms.storage.dataset import Dataset
from transforms.storage.processes import is_gone, this_process

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
    data = whole_files.read_bytes(dataset.filesystem, dataset.path(name))
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
