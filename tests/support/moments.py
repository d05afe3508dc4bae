"""Something done in this process just before an event of Python's, to force an interleaving."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator


@dataclasses.dataclass
class _Moment:
    event: str
    part: str
    number: int
    action: Callable[[], None]
    seen: int = 0


_moments: list[_Moment] = []


def _hook(name: str, args: tuple[object, ...]) -> None:
    for moment in [one for one in _moments if one.event == name]:
        paths = [str(one) for one in args if isinstance(one, str | os.PathLike)]
        if any(moment.part in path for path in paths):
            moment.seen += 1
            if moment.seen == moment.number:
                _moments.remove(moment)
                moment.action()


sys.addaudithook(_hook)  # It cannot be taken off again; without moments it does nothing.


@contextlib.contextmanager
def just_before(
    event: str, part: str, action: Callable[[], None], number: int = 1
) -> Iterator[None]:
    """Do something before the n-th event of a kind whose arguments name a path with a part.

    Fails if it never comes to that. The events are Python's audit events.
    """
    moment = _Moment(event, part, number, action)
    _moments.append(moment)
    try:
        yield
    finally:
        missed = moment in _moments
        if missed:
            _moments.remove(moment)
    assert not missed, f"it never came to {event} {part} #{number}"
