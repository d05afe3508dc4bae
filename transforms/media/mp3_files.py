"""MP3 files: their length by their frames, and pieces of them.

Each frame says its own length, so that the length is right whatever the bit rates are. The first
frame may hold a table (`Xing`, `Info`, `VBRI`) in place of sound.
Source: ISO/IEC 11172-3 and 13818-3; gabriel.mp3-tech.org, "VBR header and LAME tag".
"""

from __future__ import annotations

import bisect
import dataclasses
import struct

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.media import MediaFault
from bulkembed.transforms.media.media_types import after_id3, is_mp3_frame

_KBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_KBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
_HERTZ_1 = (44_100, 48_000, 32_000, 0)
_MAX_GARBAGE = 65_536
"""Bytes between frames that are skipped before a file counts as damaged."""
_TABLE_HEAD = 64
_TABLE_SIZE = 144
_ENCODERS = (b"LAME", b"Lavf", b"Lavc")
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
    added_s: float = 0.0
    """The silence that the encoder added at both ends, and says so."""

    @property
    def seconds(self) -> float:
        """The length."""
        return max(0.0, self.times[-1] - self.added_s)

    def piece(self, data: bytes, start_s: float, end_s: float, *, limit_s: float) -> bytes:
        """Return the frames that lie between two seconds as a whole, as a file of their own.

        A first frame counts them: readers would have to guess the length of another file. Some
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
    at, skipped = after_id3(data), 0
    declared, added_s = 0, 0.0
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
        table = _read_table(data, at, seconds) if is_first else None
        is_first = False
        if table is not None:
            declared, added_s = table
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
    return Mp3File([*places, min(at, end)], times, added_s)


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


def _read_table(data: bytes, at: int, frame_s: float) -> tuple[int, float] | None:
    """Return the frames that a table counts and the seconds that the encoder added.

    None if the frame is one of sound; 0 for what the table does not say.
    """
    head = data[at : at + _TABLE_HEAD]
    if (place := head.find(b"VBRI")) >= 0:
        return int.from_bytes(head[place + 14 : place + 18], "big"), 0.0
    place = max(head.find(b"Xing"), head.find(b"Info"))
    if place < 0:
        return None
    table = data[at + place : at + place + _TABLE_SIZE]
    flags = int.from_bytes(table[4:8], "big")
    frames = int.from_bytes(table[8:12], "big") if flags & 1 else 0
    if flags & 15 != 15 or table[120:124] not in _ENCODERS or len(table) < _TABLE_SIZE:
        return frames, 0.0
    added = int.from_bytes(table[141:144], "big")  # Samples: 12 bits before and 12 behind.
    per_frame = 1152 if data[at + 1] & 0x18 == 0x18 else 576
    return frames, ((added >> 12) + (added & 0xFFF)) * frame_s / per_frame
