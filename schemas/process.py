"""A process, named so that it can be found again, or not be taken for another one."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class ProcessId:
    """A process number, and where it means something.

    Containers share the host's name and reuse its numbers: a number is only believed within one
    boot of the machine and one namespace of process numbers.
    """

    pid: int
    boot: str = ""
    """Of the machine since it was started; "" where it is not known."""
    namespace: str = ""
    """Of the process numbers; "" where it is not known."""
    started: int = 0
    """Clock ticks from the boot to the start of the process; 0 where they are not known."""
