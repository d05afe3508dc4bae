"""Sends a process a signal at the n-th audit event of a kind; see support.dying_workers.

Source: https://docs.python.org/3/library/audit_events.html, 2026-11.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path


def _die(marks: Path, deaths: int, number: int) -> None:
    for place in range(deaths):
        try:
            with (marks / str(place)).open("x") as mark:
                mark.write(str(os.getpid()))
        except FileExistsError:
            continue
        os.kill(os.getpid(), number)


def _watch(event: str, part: str, number: int, marks: Path, deaths: int, signal: int) -> None:
    if event == "start":
        _die(marks, deaths, signal)
    seen = itertools.count(1)

    def hook(name: str, args: tuple[object, ...]) -> None:
        if name != event:
            return
        words = [str(one) for one in args if isinstance(one, str | os.PathLike)]
        if any(part in word for word in words) and next(seen) == number:
            _die(marks, deaths, signal)

    sys.addaudithook(hook)


if os.environ.get("DYING_WHO") in sys.orig_argv:
    told = os.environ["DYING_WORKER"].split("\n")
    _watch(told[0], told[1], int(told[2]), Path(told[3]), int(told[4]), int(told[5]))
