"""Broken, odd and good media files, with the result of each of them."""

from __future__ import annotations

import struct
import zlib

from bulkembed.schemas.media import MediaKind
from bulkembed.schemas.media_settings import MediaSettings
from support.media_samples import (
    FTYP,
    FTYP_MOV,
    MDAT,
    box,
    chunk,
    id3,
    mp3,
    mp4,
    mp4_head,
    mp4_track,
    pdf,
    picture,
    png_chunk,
    png_of,
    saved,
    wav,
    xing,
)

IMAGE, AUDIO, VIDEO, PDF = MediaKind
SETTINGS = MediaSettings(max_pixels=10_000, max_bytes=100_000, max_source_bytes=200_000)
JPEG = saved(picture(), "JPEG")
PNG = saved(picture(), "PNG")
PIXELS = png_chunk(b"IDAT", zlib.compress(b"\0\0\0" * 2))
"""The pixels of a gray image of 2 x 2."""


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 0xFF,)) + data[at + 1 :]


def gif_of(width: int, height: int) -> bytes:
    size = struct.pack("<HH", width, height)
    return b"GIF89a" + size + b"\0\0\0,\0\0\0\0" + size + b"\0\2\2\x4c\1\0;"


def tiff_of_one_tile(side: int) -> bytes:
    """Return an image of 10 x 10 pixels that is kept in one tile of another size."""
    tags = [(256, 10), (257, 10), (258, 8), (259, 5), (262, 1), (277, 1), (322, side), (323, side)]
    tags += [(324, 150), (325, 9)]
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + fields + bytes(100)


def many_scans() -> bytes:
    data = saved(picture(), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * 100 + data[-2:]


def bomb(size: int) -> bytes:
    return zlib.compress(bytes(size), 9)


ODD = [
    # What is not there, or is something else.
    ("zero-bytes", IMAGE, b"", "corrupt_media", "the file is empty"),
    ("html", IMAGE, b"<!DOCTYPE html><title>Gone", "unsupported_type", "an HTML page instead of"),
    ("json", AUDIO, b'{"error": "gone"}', "unsupported_type", "a JSON document instead of audio"),
    ("xml", PDF, b"<?xml version='1.0'?><Error/>", "unsupported_type", "an XML document instead"),
    ("text", IMAGE, b"https://example.org/a.png", "unsupported_type", "text instead of an image"),
    ("git-lfs", IMAGE, b"version https://git-lfs.github.com/spec/v1\n", "unsupported_type",
     "Git LFS pointer"),
    ("noise", IMAGE, b"\x01\x02\x03\x04" * 9, "unsupported_type", "a file of unknown type"),
    ("svg", IMAGE, b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported_type", "an SVG"),
    ("pdf-as-image", IMAGE, pdf(1), "unsupported_type", "a PDF file instead of an image"),
    ("image-as-pdf", PDF, JPEG, "unsupported_type", "a JPEG image instead of a PDF file"),
    ("image-as-video", VIDEO, saved(picture(), "GIF"), "unsupported_type", "a GIF image instead"),
    ("zip-as-pdf", PDF, b"PK\3\4 docx", "unsupported_type", "a ZIP archive instead of a PDF"),
    ("icon", IMAGE, saved(picture(), "ICO"), "unsupported_type", "an icon file cannot be"),
    ("jpeg-2000", IMAGE, saved(picture(), "JPEG2000"), "unsupported_type", "a JP2 image cannot"),
    ("flac", AUDIO, b"fLaC" + bytes(99), "unsupported_type", "Convert it to MP3 audio or WAV"),
    ("m4a", AUDIO, box(b"ftyp", b"M4A \0\0\0\0"), "unsupported_type", "M4A audio is not accepted"),
    ("webm", VIDEO, b"\x1aE\xdf\xa3" + bytes(99), "unsupported_type", "an MP4 video or a MOV"),
    # Cut off or damaged.
    ("jpeg-cut-off", IMAGE, JPEG[:-40], "corrupt_media", "truncated"),
    ("jpeg-without-its-end", IMAGE, JPEG[:-2], "corrupt_media", "truncated"),
    ("jpeg-head-only", IMAGE, JPEG[:200], "corrupt_media", "a JPEG image that cannot be decoded"),
    ("jpeg-of-three-bytes", IMAGE, JPEG[:3], "corrupt_media", "a JPEG image that cannot"),
    ("jpeg-without-tables", IMAGE, JPEG[:2] + JPEG[JPEG.index(b"\xff\xc0") :], "corrupt_media",
     "a JPEG image"),
    ("png-cut-off", IMAGE, PNG[: len(PNG) // 2], "corrupt_media", "a PNG image that cannot"),
    ("png-without-its-end", IMAGE, PNG[:-12], "corrupt_media", "a PNG image that cannot"),
    ("png-wrong-checksum", IMAGE, flipped(PNG, len(PNG) - 20), "corrupt_media", "a PNG image"),
    ("png-no-pixels", IMAGE, png_of(9, 9), "corrupt_media", "a PNG image that cannot"),
    ("png-few-pixels", IMAGE, png_of(99, 99, PIXELS), "corrupt_media", "a PNG image"),
    ("webp-cut-off", IMAGE, saved(picture(), "WEBP")[:-50], "corrupt_media", "a WEBP image"),
    ("gif-cut-off", IMAGE, saved(picture(), "GIF")[:-50], "corrupt_media", "a GIF image"),
    ("tiff-cut-off", IMAGE, saved(picture(), "TIFF")[:-50], "corrupt_media", "a TIFF image"),
    ("bmp-cut-off", IMAGE, saved(picture(), "BMP")[:-50], "corrupt_media", "a BMP image"),
    ("wav-cut-off", AUDIO, wav(1)[:-99], "corrupt_media", "the WAV file is cut off"),
    ("mp3-cut-off", AUDIO, xing(90) + mp3(1), "corrupt_media", "its table counts 90 frames"),
    ("mp3-tag-only", AUDIO, id3(99), "corrupt_media", "no frames of sound"),
    ("mp4-cut-off", VIDEO, mp4(3)[:-9], "corrupt_media", "the video file is cut off"),
    ("mp4-no-header", VIDEO, FTYP + MDAT, "corrupt_media", "has no header"),
    ("mp4-only-sound", VIDEO, FTYP + mp4_head(3, mp4_track(b"soun")), "unsupported_type",
     "without a video track"),
    ("pdf-cut-off", PDF, pdf(3)[:30], "corrupt_media", "a PDF file that cannot be decoded"),
    ("pdf-no-pages", PDF, pdf(0), "corrupt_media", "the PDF file has no pages"),
    ("pdf-password", PDF, pdf(2, user_password="x", algorithm="AES-256"), "corrupt_media",
     "opens only with a password"),
    ("pdf-old-password", PDF, pdf(2, user_password="x", algorithm="RC4-128"), "corrupt_media",
     "opens only with a password"),
    # Too much of it.
    ("png-bomb", IMAGE, png_of(50_000, 50_000, png_chunk(b"IDAT", bomb(999))), "too_many_pixels",
     "50,000 x 50,000 = 2,500,000,000 pixels, but at most 10,000 are allowed"),
    ("png-just-above", IMAGE, saved(picture("L", (101, 100)), "PNG"), "too_many_pixels", "10,100"),
    ("jpeg-above", IMAGE, saved(picture("L", (101, 100)), "JPEG"), "too_many_pixels", "10,100"),
    ("gif-bomb", IMAGE, gif_of(65_535, 65_535), "too_many_pixels", "65,535 x 65,535"),
    ("gif-frame-bomb", IMAGE, gif_of(9, 9).replace(b"\0\0\0\0\t\0", b"\0\0\0\0\xff\xff")
     .replace(b"\xff\xff\t\0", b"\xff\xff\xff\xff"), "too_many_pixels", ""),
    ("webp-bomb", IMAGE, b"RIFF\xff\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff" * 6,
     "too_many_pixels", "16,777,216 x 16,777,216"),
    ("webp-lossless-bomb", IMAGE, b"RIFF\xff\0\0\0WEBPVP8L\x0a\0\0\0\x2f\xff\xff\xff\x0f",
     "too_many_pixels", "16,384 x 16,384"),
    ("webp-lossy-bomb", IMAGE, b"RIFF\xff\0\0\0WEBPVP8 \x0a\0\0\0" + bytes(6) + b"\xff\x3f" * 2,
     "too_many_pixels", "16,383 x 16,383"),
    ("bmp-bomb", IMAGE, b"BM" + bytes(12) + struct.pack("<IiiHHIIiiII", 40, 2**31 - 1, 2**31 - 1,
     1, 24, 0, 0, 0, 0, 0, 0), "too_many_pixels", "2,147,483,647 x 2,147,483,647"),
    ("tiff-tile-bomb", IMAGE, tiff_of_one_tile(60_000), "too_many_pixels", "60,000 x 60,000"),
    ("jpeg-scans", IMAGE, many_scans(), "corrupt_media", "scans, which is no real image"),
    ("png-text-bomb", IMAGE, png_of(2, 2, png_chunk(b"zTXt", b"a\0\0" + bomb(20_000_000)), PIXELS),
     "corrupt_media", "Decompressed data too large"),
    ("png-profile-bomb", IMAGE, png_of(2, 2, png_chunk(b"iCCP", b"a\0\0" + bomb(20_000_000)),
     PIXELS), "corrupt_media", "Decompressed data too large"),
    ("large-source", AUDIO, wav(25), "too_large", "200,044 bytes, but at most 200,000 are read"),
    ("large", AUDIO, wav(12.5), "too_large", "WAV audio of 100,044 bytes, but at most 100,000"),
    ("wav-200-s", AUDIO, b"RIFF\0\0\0\0WAVE" + chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 90, 90,
     1, 8)) + chunk(b"data", bytes(18_000)), "too_long", "lasts 200.0 s, but the model accepts at"),
    ("mp4-200-s", VIDEO, mp4(200), "too_long", "lasts 200.0 s, but the model accepts at most 120"),
    ("pdf-7-pages", PDF, pdf(7), "too_many_pages", "has 7 pages, but the model accepts at most 6"),
]  # fmt: skip


GOOD = [
    ("jpeg", IMAGE, JPEG, "image/jpeg"),
    ("gray-jpeg", IMAGE, saved(picture("L"), "JPEG"), "image/jpeg"),
    ("jpeg-bytes-after", IMAGE, JPEG + bytes(999), "image/jpeg"),
    ("png", IMAGE, PNG, "image/png"),
    ("png-idat-bomb", IMAGE, png_of(2, 2, png_chunk(b"IDAT", bomb(20_000_000))), "image/png"),
    ("largest", IMAGE, saved(picture("L", (100, 100)), "PNG"), "image/png"),
    ("wav", AUDIO, wav(1), "audio/wav"),
    ("mp3", AUDIO, id3(99) + xing(28) + mp3(1), "audio/mpeg"),
    ("mp4", VIDEO, mp4(3), "video/mp4"),
    ("mp4-header-last", VIDEO, FTYP + MDAT + mp4_head(3), "video/mp4"),
    ("mov", VIDEO, FTYP_MOV + MDAT + mp4_head(3), "video/quicktime"),
    ("pdf", PDF, pdf(6), "application/pdf"),
    ("pdf-no-password", PDF, pdf(2, user_password="", owner_password="x", algorithm="AES-256"),
     "application/pdf"),
    ("pdf-old-no-password", PDF, pdf(2, user_password="", owner_password="x",
     algorithm="RC4-128"), "application/pdf"),
    ("pdf-wrong-index", PDF, pdf(2).replace(b"startxref\n", b"startxref\n9"), "application/pdf"),
]  # fmt: skip
