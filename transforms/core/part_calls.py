"""When a call that is not full is sent because the rest of the window has no room for a full one.

The rest is worth a call of any size if otherwise it would stay unused: of 9,000 texts at 3,000 per
minute, a single one that is left out of the first windows takes another minute. But room appears
bit by bit, as calls leave the window and answers return reserved tokens, and a call for each bit
would be a shower of tiny ones. So a part waits as long as more room is about to appear, but at
most PART_WAIT_S. That bounds both: at most one such call in PART_WAIT_S, and at most that much of
a minute unused.

Where not even the next content fits, because it is long, shorter ones behind it use the rest. What
they use must not keep the next one waiting: it is sent at most PART_WAIT_S later than without them.
"""

from __future__ import annotations

import math

PART_WAIT_S = 1.0
LOOK_AHEAD = 1000
"""How many contents behind the next one are looked at."""
_MIN_WAIT_S = 0.01


class PartWait:
    """How long the part of a call waits; one for each queue. Times come from a monotonic clock."""

    def __init__(self) -> None:
        self._since = math.inf

    def wait_s(self, now: float, more_room_s: float) -> float:
        """Return the seconds until a part that has room now should be sent.

        Args:
            now: monotonic.
            more_room_s: until more room appears; 0.0 if an answer decides that.
        """
        self._since = min(self._since, now)
        remaining = self._since + PART_WAIT_S - now
        if remaining <= more_room_s:
            return 0.0
        return max(more_room_s, _MIN_WAIT_S) if more_room_s > 0 else remaining

    def sent(self) -> None:
        """Note that a call was sent."""
        self._since = math.inf


class HeadWait:
    """When the content at the head of the queue has to have room, whatever shorter ones use."""

    def __init__(self) -> None:
        self._due = math.inf

    def due(self, now: float, wait_s: float) -> float:
        """Return when the head has to have room, in epoch seconds.

        Args:
            now: epoch seconds.
            wait_s: until it has room. Only the first one for a head counts, unless that time is
                over, because other processes have used the room.
        """
        if not now <= self._due < math.inf:
            self._due = now + wait_s + PART_WAIT_S
        return self._due

    def sent(self) -> None:
        """Note that the head was sent."""
        self._due = math.inf
