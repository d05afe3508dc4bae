"""Small integers in Parquet's hybrid of run lengths and packed bits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_MAX_WIDTH = 32


def unpacked(data: bytes, width: int, count: int) -> npt.NDArray[np.int64]:
    """Return the integers of some runs.

    Args:
        data: the runs; more bytes may follow.
        width: bits of an integer; with 0, all integers are 0 and there are no runs.
        count: how many integers.

    Raises:
        OSError: the runs have fewer integers, or the width is more than 32.
    """
    if width > _MAX_WIDTH:
        raise OSError(f"a page has integers of {width} bits")
    if not width:
        return np.zeros(count, np.int64)
    found: list[npt.NDArray[np.int64]] = []
    at = 0
    while count > 0:
        head, at = _varint(data, at)
        stored_bytes = (head >> 1) * width if head & 1 else (width + 7) // 8
        stored = data[at : at + stored_bytes]
        at += stored_bytes
        if head & 1:
            run = _bits(stored, width)[:count]
        else:
            run = np.full(min(head >> 1, count), int.from_bytes(stored, "little"), np.int64)
        if not len(run) or (len(stored) < stored_bytes and len(run) < count):
            raise OSError("a page has fewer levels or numbers than its header says")
        found.append(run)
        count -= len(run)
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return an integer, and the place after it."""
    value = shift = 0
    while at < len(data):
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            break
    return value, at


def _bits(data: bytes, width: int) -> npt.NDArray[np.int64]:
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    rows = bits[: len(bits) // width * width].reshape(-1, width).astype(np.int64)
    return rows @ (1 << np.arange(width, dtype=np.int64))
