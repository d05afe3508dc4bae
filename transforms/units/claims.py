"""Contents that several units of a process want, although no plan could know: one of them sends it.

What is in a file at a path or URI is known once it is read. The first unit that wants a content
claims it. A later one sends its other contents, waits until the units that have claimed before it
have ended, and looks for the content in what these have committed. So no two units wait for each
other.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.hashing import keys
from bulkembed.transforms.core.key_set import KeySet


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """The contents of one unit."""

    own: list[Content]
    """The contents that this unit sends."""
    elsewhere: list[Content]
    """The contents that other units have sent, or are sending."""
    before: list[asyncio.Event]
    """The ends of the units that are sending them."""

    async def others_ended(self) -> None:
        """Wait until the other units have ended, whether they have committed or not."""
        for end in self.before:
            await end.wait()


class Claims:
    """The contents that the units of a process have sent or are sending.

    All calls must be on one event loop.
    """

    def __init__(self) -> None:
        self._ends: dict[int, asyncio.Event] = {}
        """The end of the unit that is sending a content, by the key of the content."""
        self._sent = KeySet()

    @contextlib.contextmanager
    def claim(self, items: Sequence[Content]) -> Iterator[Claim]:
        """Claim the contents that no other unit has; the unit ends with the context."""
        every = keys([item.hash for item in items])
        sent = self._sent.has(every).tolist()
        of_others = [
            was_sent or key in self._ends
            for key, was_sent in zip(every.tolist(), sent, strict=True)
        ]
        own = [item for item, taken in zip(items, of_others, strict=True) if not taken]
        elsewhere = [item for item, taken in zip(items, of_others, strict=True) if taken]
        before = {self._ends[key] for key in every.tolist() if key in self._ends}
        own_keys = every[~np.array(of_others, bool)]
        end = asyncio.Event()
        self._ends.update(dict.fromkeys(own_keys.tolist(), end))
        try:
            yield Claim(own, elsewhere, list(before))
        finally:
            for key in own_keys.tolist():
                del self._ends[key]
            self._sent.add(own_keys)
            end.set()
