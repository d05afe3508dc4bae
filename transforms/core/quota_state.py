"""The mirror's state as bytes: a magic, a checksum, and doubles of this machine's byte order.

    "BEQ" version(1 byte) crc32(4 bytes)  n_head  n_in_flight*4  head...  in flight...  window...

It is for one host and for one minute (a day, as to RPD), so a version that is not known, a cut or
a damaged file is no error: `unpack` gives None and the caller begins anew.
"""

from __future__ import annotations

import array
import zlib
from collections.abc import Iterable

MAGIC = b"BEQ\x01"
_FRONT = len(MAGIC) + 4
_WORD = 8


def pack(head: Iterable[float], in_flight: Iterable[float], window: array.array[float]) -> bytes:
    """The three runs of numbers as bytes."""
    first, second = array.array("d", head), array.array("d", in_flight)
    numbers = array.array("d", (len(first), len(second)))
    body = b"".join((numbers.tobytes(), first.tobytes(), second.tobytes(), window.tobytes()))
    return MAGIC + zlib.crc32(body).to_bytes(4, "little") + body


def unpack(
    data: bytes, head: int
) -> tuple[array.array[float], array.array[float], array.array[float]] | None:
    """What `pack` was given; None where the bytes are no state with `head` numbers at the front."""
    body = data[_FRONT:]
    if data[:4] != MAGIC or len(body) < 2 * _WORD or len(body) % _WORD:
        return None
    if zlib.crc32(body) != int.from_bytes(data[4:_FRONT], "little"):
        return None
    numbers = array.array("d", body)
    first, second = int(numbers[0]), int(numbers[1])
    rest = len(numbers) - 2 - first - second
    if first != head or second % 4 or rest < 0 or rest % 3:
        return None
    at = 2 + first
    return numbers[2:at], numbers[at : at + second], numbers[at + second :]
