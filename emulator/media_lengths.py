"""What the bytes of a file say: its true type, the length of audio and video, pages of a PDF."""

from __future__ import annotations

import dataclasses
import io
import logging
import struct
from collections.abc import Iterator

_MP3_KBPS = {
    1: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""The bit rates of layer III, by MPEG version (2.5 has those of 2)."""
_MP3_HZ = (44_100, 48_000, 32_000)


class UnreadableMedia(ValueError):
    """Raised for bytes that are no file of the kind that they should be."""


def true_type(data: bytes) -> str:
    """Return the MIME type by the first bytes; "" for one that is not known here."""
    if data[:4] == b"RIFF":
        return {b"WAVE": "audio/wav", b"WEBP": "image/webp"}.get(data[8:12], "")
    if data[4:8] == b"ftyp":
        return "video/quicktime" if data[8:12] == b"qt  " else "video/mp4"
    if data[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "video/quicktime"
    if data[:3] == b"ID3" or (data[:1] == b"\xff" and _mp3_frame(data, 0)):
        return "audio/mpeg"
    starts = {
        b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif",
        b"BM": "image/bmp", b"II*\0": "image/tiff", b"MM\0*": "image/tiff",
    }  # fmt: skip
    found = next((mime for start, mime in starts.items() if data.startswith(start)), "")
    return found or ("application/pdf" if b"%PDF-" in data[:1024] else "")


def sound_seconds(data: bytes) -> float:
    """Return the length of a WAV or MP3 file.

    Raises:
        UnreadableMedia: it is neither.
    """
    return _wav_seconds(data) if true_type(data) == "audio/wav" else _mp3_seconds(data)


def _wav_seconds(data: bytes) -> float:
    rate, at = 0, 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if name == b"fmt " and at + 20 <= len(data):
            rate = int.from_bytes(data[at + 16 : at + 20], "little")
        if name == b"data":
            if not rate:
                break
            # A program that writes to a pipe does not know the size: the rest is sound.
            return min(size, len(data) - at - 8) / rate
        at += 8 + size + size % 2
    raise UnreadableMedia("no sound in a WAV file")


def _mp3_seconds(data: bytes) -> float:
    at = 0
    if data[:3] == b"ID3" and len(data) >= 10:
        size = data[6] << 21 | data[7] << 14 | data[8] << 7 | data[9]
        at = 10 + size + (10 if data[5] & 0x10 else 0)
    seconds, frames = 0.0, 0
    while (at := data.find(b"\xff", at)) >= 0:
        frame = _mp3_frame(data, at)
        if frame is None or not _follows(data, at + frame[0]):
            at += 1
            continue
        seconds, frames, at = seconds + frame[1], frames + 1, at + frame[0]
    if frames < 2:
        raise UnreadableMedia("no MP3 frames")
    return seconds


def _follows(data: bytes, at: int) -> bool:
    """Return whether a frame may end here: before another frame, a tag, or the end."""
    return at >= len(data) - 4 or data[at : at + 3] == b"TAG" or _mp3_frame(data, at) is not None


def _mp3_frame(data: bytes, at: int) -> tuple[int, float] | None:
    """Return the bytes and seconds of a frame of layer III; None if there is none."""
    head = int.from_bytes(data[at : at + 4], "big")
    version = {3: 1, 2: 2, 0: 4}.get(head >> 19 & 3, 0)
    rate, hertz = head >> 12 & 15, head >> 10 & 3
    if head >> 21 != 0x7FF or not version or head >> 17 & 3 != 1 or rate in (0, 15) or hertz == 3:
        return None
    hz = _MP3_HZ[hertz] // version
    samples = 1152 if version == 1 else 576
    bytes_per_s = _MP3_KBPS[min(version, 2)][rate - 1] * 125
    return samples * bytes_per_s // hz + (head >> 9 & 1), samples / hz


@dataclasses.dataclass(frozen=True, slots=True)
class Movie:
    """The length of a video, and whether it has an audio track."""

    seconds: float
    has_sound: bool


def read_movie(data: bytes) -> Movie:
    """Return what an MP4 or MOV file says of itself.

    Raises:
        UnreadableMedia: it is neither, or has no video.
    """
    try:
        moov = dict(_boxes(data, 0, len(data)))[b"moov"]
        boxes = list(_boxes(data, *moov))
        tracks = {_track(data, place) for name, place in boxes if name == b"trak"}
        seconds = _movie_seconds(data, dict(boxes))
    except (KeyError, IndexError, struct.error):
        raise UnreadableMedia("no MP4 or MOV file") from None
    if b"vide" not in tracks or seconds <= 0:
        raise UnreadableMedia("no video")
    return Movie(seconds, b"soun" in tracks)


_Place = tuple[int, int]


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, _Place]]:
    """Yield the name and the place of the content of each box."""
    while start + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, start)
        content = start + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, content)
            content += 8
        size = size or end - start
        if size < content - start or start + size > end:
            break
        yield name, (content, start + size)
        start += size


def _track(data: bytes, place: _Place) -> bytes:
    media = dict(_boxes(data, *place)).get(b"mdia", (0, 0))
    handler = dict(_boxes(data, *media)).get(b"hdlr", (0, 0))
    return data[handler[0] + 8 : handler[0] + 12]


def _movie_seconds(data: bytes, boxes: dict[bytes, _Place]) -> float:
    start = boxes[b"mvhd"][0]
    wide = data[start] == 1
    scale, length = struct.unpack_from(">IQ" if wide else ">II", data, start + (20 if wide else 12))
    extended = dict(_boxes(data, *boxes.get(b"mvex", (0, 0)))).get(b"mehd")
    if not length and extended:  # A file in fragments.
        (length,) = struct.unpack_from(">Q" if data[extended[0]] else ">I", data, extended[0] + 4)
    return length / scale if scale else 0.0


def read_pdf(data: bytes, pages: int) -> tuple[int, list[str]]:
    """Return the number of pages of a PDF file, and the text of the first `pages` ones.

    Raises:
        UnreadableMedia: it is none.
    """
    import pypdf

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        return len(reader.pages), [page.extract_text() for page in reader.pages[:pages]]
    except Exception as error:  # Its errors are many, and not only its own.
        raise UnreadableMedia("no PDF file") from error
