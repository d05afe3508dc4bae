"""Raw Snappy, decompressed block by block, which Arrow cannot do."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa

BLOCK_BYTES = 1 << 16
"""Snappy's encoders compress each 64 kB of their input on its own."""
_MAX_STORED_BLOCK = 32 + BLOCK_BYTES + BLOCK_BYTES // 6
"""Snappy's own bound for the size of a block."""
_LONG_LITERAL = 60 << 2
"""The first tag of a literal that has its length in 1 to 4 bytes after the tag."""


class NotInBlocks(Exception):
    """Some bytes are not Snappy, or not made of independent blocks of 64 kB."""


def decompressed_blocks(read: Callable[[], bytes], size: int) -> Iterator[bytes]:
    """Yield the content of each block.

    Args:
        read: returns the next compressed bytes; b"" at their end.
        size: how many bytes they decompress to.

    Raises:
        NotInBlocks: see there. The blocks before are right.
    """
    codec = pa.Codec("snappy")
    for block, block_bytes in _blocks(read, size):
        try:
            yield codec.decompress(_varint(block_bytes) + block, block_bytes, asbytes=True)
        except (pa.ArrowException, OSError) as error:
            raise NotInBlocks from error


def _blocks(read: Callable[[], bytes], size: int) -> Iterator[tuple[bytes, int]]:
    """Yield the elements of each block, and the size of its content."""
    data, head = read(), _varint(size)
    at = len(head)
    if data[:at] != head:
        raise NotInBlocks
    while size:
        while len(data) - at < _MAX_STORED_BLOCK and (more := read()):
            data, at = data[at:] + more, 0
        block_bytes = min(size, BLOCK_BYTES)
        end = _end_of_block(data, at, block_bytes)
        yield data[at:end], block_bytes
        at = end
        size -= block_bytes
    if at != len(data) or read():
        raise NotInBlocks


def _end_of_block(data: bytes, at: int, size: int) -> int:
    """Return where the elements end that make `size` bytes."""
    try:
        while size > 0:
            tag = data[at]
            if _STORED[tag]:
                at += _STORED[tag]
                size -= _MADE[tag]
            else:
                begin = at + 2 + (tag - _LONG_LITERAL >> 2)
                made = int.from_bytes(data[at + 1 : begin], "little") + 1
                at = begin + made
                size -= made
    except IndexError:
        raise NotInBlocks from None
    if size or at > len(data):
        raise NotInBlocks
    return at


def _element(tag: int) -> tuple[int, int]:
    """Return how many bytes an element has, and how many it makes; (0, 0) for a long literal."""
    kind, size = tag & 3, (tag >> 2) + 1
    if kind == 0:
        return (0, 0) if tag >= _LONG_LITERAL else (1 + size, size)
    if kind == 1:
        return 2, 4 + (tag >> 2 & 7)
    return (3 if kind == 2 else 5), size


_STORED, _MADE = zip(*map(_element, range(256)), strict=True)


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])
