"""MP4 and MOV files: the length of their video, from the boxes that describe it.

A box has 4 bytes of size and 4 of name; a size of 1 is followed by 8 bytes of size, and 0 means to
the end of the file. Fragmented files keep their lengths in the boxes `moof`.
Source: ISO/IEC 14496-12; Apple's QuickTime File Format.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.media import MediaFault

Box = tuple[bytes, int, int]
"""Name, where the content begins, where it ends."""

_MAX_BOXES = 100_000
_DEFAULT_DURATION = 0x08
_SAMPLE_FIELDS = 0x0F00
_SAMPLE_DURATION = 0x0100
_TFHD_BEFORE = ((0x01, 8), (0x02, 4))
"""Flags of `tfhd`, with the bytes of the fields before the duration of samples."""
_TRUN_BEFORE = ((0x01, 4), (0x04, 4))


def mp4_seconds(data: bytes) -> float:
    """Return the length of the video in an MP4 or MOV file.

    Raises:
        MediaFault: the file is cut off, has no video, or its headers cannot be read.
    """
    boxes = list(itertools.islice(_boxes(data, 0, len(data)), _MAX_BOXES))
    if len(boxes) == _MAX_BOXES:
        raise _fault(f"has more than {_MAX_BOXES:,} boxes")
    for name, _, end in boxes:
        if end > len(data) and name.isalnum():  # Other names are what some programs leave behind.
            raise _fault(f"is cut off: {end:,} bytes are declared, {len(data):,} are there")
    movie = _child(boxes, b"moov")
    if movie is None:
        raise _fault("has no header (no box `moov`)")
    inner = list(_boxes(data, *movie[1:]))
    if _child(inner, b"cmov") is not None:
        raise MediaFault(DeadCode.UNSUPPORTED_TYPE, "a MOV video with a compressed header")
    tracks = _tracks(data, inner, b"vide")
    if not tracks:
        raise MediaFault(DeadCode.UNSUPPORTED_TYPE, "an MP4 file without a video track")
    seconds = _movie_seconds(data, inner) or _fragment_seconds(
        data, boxes, inner, _time_scales(data, tracks)
    )
    if not seconds:
        raise _fault("does not declare its length")
    return seconds


def has_audio_track(data: bytes) -> bool:
    """Return whether an MP4 or MOV file that `mp4_seconds` can read has an audio track."""
    movie = _child(list(_boxes(data, 0, len(data))), b"moov")
    return movie is not None and bool(_tracks(data, list(_boxes(data, *movie[1:])), b"soun"))


def _boxes(data: bytes, at: int, end: int) -> Iterator[Box]:
    """Yield the boxes between two places; one that is cut off ends beyond them."""
    while at + 8 <= end:
        size, name, first = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], at + 8
        if size == 1:
            size, first = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        last = end if size == 0 else at + size
        if last < first:
            return
        yield name, first, last
        at = last


def _child(boxes: list[Box], name: bytes) -> Box | None:
    return next((box for box in boxes if box[0] == name), None)


def _within(data: bytes, box: Box, *names: bytes) -> Box | None:
    """Return the box at a path of names below another one."""
    found: Box | None = box
    for name in names:
        if found is None:
            return None
        found = _child(list(_boxes(data, found[1], min(found[2], len(data)))), name)
    return found


def _number(data: bytes, at: int, size: int = 4) -> int:
    return int.from_bytes(data[at : at + size], "big")


def _tracks(data: bytes, movie: list[Box], kind: bytes) -> list[Box]:
    return [
        box
        for box in movie
        if box[0] == b"trak"
        and (handler := _within(data, box, b"mdia", b"hdlr"))
        and data[handler[1] + 8 : handler[1] + 12] == kind
    ]


def _time_scales(data: bytes, tracks: list[Box]) -> dict[int, int]:
    """Return the ticks per second of each track by its number."""
    found = {}
    for track in tracks:
        head = _within(data, track, b"tkhd")
        media = _within(data, track, b"mdia", b"mdhd")
        if head and media:
            number, scale = (
                _number(data, box[1] + (20 if _number(data, box[1], 1) else 12))
                for box in (head, media)
            )
            found[number] = scale
    return found


def _movie_seconds(data: bytes, movie: list[Box]) -> float:
    """Return the length of the movie by `mvhd` or `mehd`; 0 if they do not say it."""
    head = _child(movie, b"mvhd")
    if head is None:
        return 0.0
    is_long = _number(data, head[1], 1) == 1
    scale = _number(data, head[1] + (20 if is_long else 12))
    ticks = _number(data, head[1] + (24 if is_long else 16), 8 if is_long else 4)
    extends = _child(movie, b"mvex")
    total = extends and _within(data, extends, b"mehd")
    if total:
        size = 8 if _number(data, total[1], 1) == 1 else 4
        ticks = max(ticks, _number(data, total[1] + 4, size))
    unknown = ticks in (0, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
    return 0.0 if unknown or not scale else ticks / scale


def _fragment_seconds(
    data: bytes, boxes: list[Box], movie: list[Box], scales: dict[int, int]
) -> float:
    """Return the length of the longest video track by the samples of all fragments."""
    defaults = _default_durations(data, movie)
    ticks = dict.fromkeys(scales, 0)
    for fragment in boxes:
        if fragment[0] != b"moof":
            continue
        for box in _boxes(data, *fragment[1:]):
            head = _within(data, box, b"tfhd") if box[0] == b"traf" else None
            number = _number(data, head[1] + 4) if head else 0
            if head and number in scales:
                default = _fragment_default(data, head, defaults.get(number, 0))
                ticks[number] += sum(
                    _run_ticks(data, run, default)
                    for run in _boxes(data, *box[1:])
                    if run[0] == b"trun"
                )
    return max((ticks[each] / scales[each] for each in scales if scales[each]), default=0.0)


def _default_durations(data: bytes, movie: list[Box]) -> dict[int, int]:
    extends = _child(movie, b"mvex")
    if extends is None:
        return {}
    return {
        _number(data, first + 4): _number(data, first + 12)
        for name, first, _ in _boxes(data, *extends[1:])
        if name == b"trex"
    }


def _fragment_default(data: bytes, head: Box, default: int) -> int:
    flags = _number(data, head[1] + 1, 3)
    if not flags & _DEFAULT_DURATION:
        return default
    return _number(data, head[1] + 8 + sum(size for flag, size in _TFHD_BEFORE if flags & flag))


def _run_ticks(data: bytes, run: Box, default: int) -> int:
    """Return the length of one run of samples."""
    flags, samples = _number(data, run[1] + 1, 3), _number(data, run[1] + 4)
    if not flags & _SAMPLE_DURATION:
        return samples * default
    first = run[1] + 8 + sum(size for flag, size in _TRUN_BEFORE if flags & flag)
    fields = (flags & _SAMPLE_FIELDS).bit_count()
    samples = min(samples, max(0, min(run[2], len(data)) - first) // (4 * fields))
    if not samples:
        return 0
    values = np.frombuffer(data, ">u4", samples * fields, first)
    return int(values[::fields].sum(dtype=np.uint64))


def _fault(what: str) -> MediaFault:
    return MediaFault(DeadCode.CORRUPT_MEDIA, f"the video file {what}")
