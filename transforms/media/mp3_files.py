"""MP3 files: their length by their frames, and pieces of them.

Each frame says its own length, so that the length is right whatever the bit rates are.  The first
frame may hold a table (`Xing`, `Info`, `VBRI`) in place of sound.
Source: ISO/IEC 11172-3 and 13818-3; gabriel.mp3-tech.org, "VBR header and LAME tag".
"""

from __future__ import annotations

import bisect
import dataclasses
import struct

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.media import MediaFault
from bulkembed.transforms.media.media_types import is_mp3_frame

_KBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_KBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
_HERTZ_1 = (44_100, 48_000, 32_000, 0)
_MAX_GARBAGE = 65_536
"""Bytes between frames that are skipped before a file counts as damaged."""
_TABLES = (b"Xing", b"Info", b"VBRI")
_TABLE_HEAD = 64
_PRESENT = 0.98
"""The part of the frames in a table that a whole file has at least."""
_TICK_S = 1e-6


@dataclasses.dataclass(frozen=True, slots=True)
class Mp3File:
    """The frames of an MP3 file."""

    places: list[int] = dataclasses.field(repr=False)
    """Where each frame begins, and last where the last one ends."""
    times: list[float] = dataclasses.field(repr=False)
    """When each frame begins in seconds, and last when the last one ends."""

    @property
    def seconds(self) -> float:
        """The length."""
        return self.times[-1]

    def piece(self, data: bytes, start_s: float, end_s: float, *, limit_s: float) -> bytes:
        """Return the frames that lie between two seconds as a whole, as a file of their own.

        A first frame counts them: readers would have to guess the length of another file.  Some
        take it for sound, so that it counts too where the piece has to be within `limit_s`.
        """
        first = bisect.bisect_left(self.times, start_s - _TICK_S)
        last = bisect.bisect_right(self.times, end_s + _TICK_S) - 1
        frame_s = self.times[1]
        while last > first and self.times[last] - self.times[first] + frame_s > limit_s:
            last -= 1
        if last <= first:
            return b""
        frames = data[self.places[first] : self.places[last]]
        return _table(frames, last - first) + frames


def read_mp3(data: bytes) -> Mp3File:
    """Find the frames of an MP3 file.

    Raises:
        MediaFault: the file has no frames, too much else between them, or fewer than it declares.
    """
    end = len(data) - 128 if data[-128:-125] == b"TAG" else len(data)
    at, skipped, declared = _after_tags(data), 0, 0
    places: list[int] = []
    times = [0.0]
    in_step, is_first = False, True
    while at + 4 <= end and skipped <= _MAX_GARBAGE:
        size, seconds = _frame(data, at)
        if not size or not (in_step or _is_followed(data, at + size, end)):
            following = data.find(b"\xff", at + 1, end)
            following = end if following < 0 else following
            skipped, at, in_step = skipped + following - at, following, False
            continue
        in_step = True
        table = _declared_frames(data, at) if is_first else None
        is_first = False
        if table is not None:
            declared = table
        elif at + size <= end:  # A file often ends within a frame.
            places.append(at)
            times.append(times[-1] + seconds)
        at += size
    if not places:
        raise MediaFault(DeadCode.CORRUPT_MEDIA, "the MP3 file has no frames of sound")
    if skipped > _MAX_GARBAGE:
        raise MediaFault(
            DeadCode.CORRUPT_MEDIA, "the MP3 file has too many bytes that are no frames"
        )
    if len(places) < declared * _PRESENT:
        raise MediaFault(
            DeadCode.CORRUPT_MEDIA,
            f"the MP3 file is cut off: its table counts {declared:,} frames, "
            f"{len(places):,} are there",
        )
    return Mp3File([*places, min(at, end)], times)


def _frame(data: bytes, at: int) -> tuple[int, float]:
    """Return the bytes and the seconds of the frame at a place; (0, 0.0) if none is there."""
    head = data[at : at + 4]
    if not is_mp3_frame(head):
        return 0, 0.0
    is_1 = head[1] & 0x18 == 0x18
    halvings = {0x18: 0, 0x10: 1, 0x00: 2}[head[1] & 0x18]
    hertz = _HERTZ_1[head[2] >> 2 & 3] >> halvings
    bits = 1000 * (_KBITS_1 if is_1 else _KBITS_2)[head[2] >> 4]
    samples = 1152 if is_1 else 576
    return samples // 8 * bits // hertz + (head[2] >> 1 & 1), samples / hertz


def _table(sound: bytes, frames: int) -> bytes:
    """Return a first frame that counts the frames and bytes of a sound."""
    is_mono = sound[3] & 0xC0 == 0xC0
    is_1 = sound[1] & 0x18 == 0x18
    place = 4 + (17 if is_mono or not is_1 else 32) - (8 if is_mono and not is_1 else 0)
    for rate in range(1, 15):  # The lowest bit rate whose frames have room for the table.
        head = bytes((0xFF, sound[1] | 1, rate << 4 | sound[2] & 0x0C, sound[3]))
        size = _frame(head, 0)[0]
        if size >= _TABLE_HEAD:
            break
    table = b"Xing" + struct.pack(">III", 3, frames, size + len(sound))
    return (head + bytes(place - 4) + table).ljust(size, b"\0")


def _is_followed(data: bytes, at: int, end: int) -> bool:
    """Return whether another frame or the end of the sound is at a place."""
    return at + 4 > end or is_mp3_frame(data[at : at + 4])


def _after_tags(data: bytes) -> int:
    """Return where the ID3v2 tags before the sound end."""
    at = 0
    while data[at : at + 3] == b"ID3" and at + 10 <= len(data):
        size = 0
        for byte in data[at + 6 : at + 10]:
            size = size << 7 | byte & 0x7F
        at += 10 + size + (10 if data[at + 5] & 0x10 else 0)
    return at


def _declared_frames(data: bytes, at: int) -> int | None:
    """Return the frames that a table counts, 0 if it does not; None if the frame is sound."""
    head = data[at : at + _TABLE_HEAD]
    for name in _TABLES:
        place = head.find(name)
        if place < 0:
            continue
        if name == b"VBRI":
            return int.from_bytes(head[place + 14 : place + 18], "big")
        counts = int.from_bytes(head[place + 4 : place + 8], "big") & 1
        return int.from_bytes(head[place + 8 : place + 12], "big") if counts else 0
    return None
