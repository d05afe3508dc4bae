"""The time and the memory that writing a report takes."""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""Makes the present memory the peak. Source: the manual page proc_pid_clear_refs(5)."""


class Usage:
    """Measures from its creation on."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._before: int | None = None
        with contextlib.suppress(OSError):
            _RESET.write_text(_RESET_PEAK)
            self._before = _memory_bytes("VmRSS")

    @property
    def seconds(self) -> float:
        """The time so far."""
        return time.monotonic() - self._started

    @property
    def memory_bytes(self) -> int | None:
        """The maximum memory in addition to that before; None if the system does not tell it."""
        peak = None if self._before is None else _memory_bytes("VmHWM")
        return None if peak is None or self._before is None else max(0, peak - self._before)


def _memory_bytes(name: str) -> int | None:
    with contextlib.suppress(OSError):
        found = re.search(rf"^{name}:\s*(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
        return int(found[1]) * 1024 if found else None
    return None
