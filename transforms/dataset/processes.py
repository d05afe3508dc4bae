"""Identify a process, and find out later whether it is still running."""

from __future__ import annotations

import functools
import os
import socket
from pathlib import Path

from bulkembed.schemas.job import ProcessId

_PROC = Path("/proc")
_START_FIELD = 19
"""Position of the start time, field 22 of /proc/PID/stat, among the fields after the name."""


def this_process() -> ProcessId:
    """Return the current process."""
    pid = os.getpid()
    return ProcessId(pid, _boot(), _namespace(), _started(pid) or 0)


def is_gone(process: ProcessId, here: ProcessId | None = None) -> bool | None:
    """Return whether a process has ended; None if that cannot be known from here.

    Args:
        process: as it was recorded.
        here: the process that asks; by default the current one.
    """
    here = here or this_process()
    if not process.boot or (process.boot, process.namespace) != (here.boot, here.namespace):
        return None
    if not process.started:
        return not _is_there(process.pid)
    return _started(process.pid) != process.started


@functools.cache
def _boot() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        # Not Linux: no containers that share the host's name.
        return f"host {socket.gethostname()}"


def _namespace() -> str:
    try:
        return str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return ""


def _started(pid: int) -> int | None:
    """Return when a process started, in clock ticks; None if it has ended or is a zombie."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[_START_FIELD])


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
