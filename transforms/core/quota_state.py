"""The mirror's state as bytes: a magic, a checksum, and doubles of this machine's byte order.

    "BEQ" version(1 byte) crc32(4 bytes)  three lengths  head...  in flight*4...  window*3...

What stands behind that (the rest of a longer state that stood there before) is not read.

It is for one host and for one minute (a day, as to RPD), so a version that is not known, a cut or
a damaged file is no error: `unpack` gives None and the caller begins anew.
"""

from __future__ import annotations

import array
import zlib
from collections.abc import Iterable

MAGIC = b"BEQ\x03"
_FRONT = len(MAGIC) + 4
_WORD = 8
_LENGTHS = 3 * _WORD


def pack(head: Iterable[float], in_flight: Iterable[float], window: array.array[float]) -> bytes:
    """The three runs of numbers as bytes."""
    first, second = array.array("d", head), array.array("d", in_flight)
    numbers = array.array("d", (len(first), len(second), len(window)))
    body = b"".join((numbers.tobytes(), first.tobytes(), second.tobytes(), window.tobytes()))
    return MAGIC + zlib.crc32(body).to_bytes(4, "little") + body


def unpack(
    data: bytes, head: int
) -> tuple[array.array[float], array.array[float], array.array[float]] | None:
    """What `pack` was given; None where the bytes are no state with `head` numbers at the front."""
    body = memoryview(data)[_FRONT:]
    if data[:4] != MAGIC or len(body) < _LENGTHS:
        return None
    first, second, third = array.array("d", body[:_LENGTHS].tobytes())
    sound = first == head and second % 4 == 0 and third % 3 == 0
    size = _LENGTHS + _WORD * (first + second + third)
    if not sound or not size <= len(body):
        return None
    body = body[: int(size)]
    if zlib.crc32(body) != int.from_bytes(data[4:_FRONT], "little"):
        return None
    numbers = array.array("d", body[_LENGTHS:].tobytes())
    at = head + int(second)
    return numbers[:head], numbers[head:at], numbers[at:]
