"""Memory for the bodies of answers, which is used again.

The system clears new memory page by page: for a body of megabytes that takes longer than to
receive it.
"""

from __future__ import annotations

KEPT = 4
"""How many buffers are kept while no body is in them."""


class BodyBuffers:
    """The buffers of one client."""

    def __init__(self) -> None:
        self._free: list[bytearray] = []

    def take(self) -> bytearray:
        """Return a buffer with any content, the largest that is free."""
        return self._free.pop() if self._free else bytearray()

    def give_back(self, buffer: bytearray) -> None:
        """Take a buffer back, unless somebody still looks into it, such as an error's traceback."""
        if not buffer or len(self._free) >= KEPT:
            return
        try:
            buffer.append(0)
        except BufferError:
            return
        self._free.append(buffer)
        self._free.sort(key=len)


def put(buffer: bytearray, at: int, piece: bytes, expected: int = 0) -> int:
    """Write a piece into a buffer, and return the position of its end.

    Args:
        buffer: grows if it is too short.
        at: where the piece begins, at most the length of the buffer.
        piece: the bytes.
        expected: the length of the whole body, if that is known.
    """
    end = at + len(piece)
    if end > len(buffer):
        buffer.extend(bytes(max(end, expected) - len(buffer)))
    with memoryview(buffer) as view:
        view[at:end] = piece
    return end
