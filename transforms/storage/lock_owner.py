"""Who holds an output, as its lock file says."""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from pathlib import Path

import orjson

from schemas.errors import OutputLocked
from transforms.storage import whole_files
from transforms.storage.dataset import Dataset

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
        return self.is_fresh if self.host != socket.gethostname() else self.may_be_alive

    @property
    def may_be_alive(self) -> bool:
        """False where the owner was a process of this host, and is no more."""
        is_here = self.host == socket.gethostname() and Path("/proc").exists()
        return not is_here or Path(f"/proc/{self.pid}").exists()

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


def read_owner(dataset: Dataset, name: str) -> LockOwner | None:
    """Who wrote a lock file; None where it is not there, or damaged."""
    data = whole_files.read_bytes(dataset.filesystem, dataset.path(name))
    return None if data is None else LockOwner.decoded(data)


def locked_by(root: str, owner: LockOwner | None) -> OutputLocked:
    """The error for an output that somebody else holds."""
    who = "another run"
    if owner is not None:
        who = f"run {owner.run_id} ({owner.runner}, process {owner.pid} on {owner.host})"
    return OutputLocked(
        f"{root} is being written by {who}; wait for it to end, or choose another --output"
    )
