"""`bulkembed` in a process that kills itself (-9) at the n-th event of a kind; nothing is patched.

    python killer.py EVENT PART N run --input ...

EVENT is one of Python's audit events, told just before the thing happens; PART stands in one of
its arguments. Source: https://docs.python.org/3/library/audit_events.html, 2026-11.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys


def die_at(event: str, part: str, number: int) -> None:
    seen = itertools.count(1)

    def hook(name: str, args: tuple[object, ...]) -> None:
        paths = [str(one) for one in args if isinstance(one, str | os.PathLike)]
        if name == event and any(part in path for path in paths) and next(seen) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


if __name__ == "__main__":
    die_at(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    from bulkembed.pipeline.cli.main import main

    main(sys.argv[4:])
