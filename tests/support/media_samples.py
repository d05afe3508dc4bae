"""Small media files, made when they are needed."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image
from pypdf import PdfWriter


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    """Return an image of a gradient, dark on the left and bright on the right."""
    gray = Image.linear_gradient("L").rotate(90).resize(size)
    return gray.convert("RGB").convert(mode)


def saved(image: Image.Image, name: str, **options: Any) -> bytes:
    """Return an image as the bytes of a file; `name` is Pillow's: JPEG, PNG, GIF, WEBP."""
    target = io.BytesIO()
    image.save(target, name, **options)
    return target.getvalue()


def opened(data: bytes) -> Image.Image:
    """Return the decoded image of a file, without the library under test."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def png_chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG file, with its checksum."""
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def png_of(width: int, height: int, *chunks: bytes, depth: int = 8, color: int = 0) -> bytes:
    """Return a PNG file with any declared size and these chunks between its head and its end."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + png_chunk(b"IEND", b"")


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    """Return a chunk of a RIFF file, padded to an even length; `size` is a declared one."""
    declared = len(content) if size is None else size
    return name + struct.pack("<I", declared) + content + b"\0" * (len(content) % 2)


def wav_format(
    encoding: int = 1, channels: int = 1, rate: int = 8000, bits: int = 8, byte_rate: int = 0
) -> bytes:
    """Return the chunk `fmt ` of a WAV file."""
    block = channels * bits // 8
    fields = (encoding, channels, rate, byte_rate or rate * block, block, bits)
    return chunk(b"fmt ", struct.pack("<HHIIHH", *fields))


def wav(seconds: float, *before: bytes, size: int | None = None) -> bytes:
    """Return a WAV file of 8,000 bytes a second, with further chunks before its samples."""
    samples = bytes(index % 251 for index in range(round(8000 * seconds)))
    content = b"WAVE" + wav_format() + b"".join(before) + chunk(b"data", samples, size)
    return chunk(b"RIFF", content)


def mp3_frame(kbits: int = 32, fill: int = 0, *, head: bytes = b"") -> bytes:
    """Return a frame of MPEG 1, layer III, 32 kHz, mono: 36 ms; `head` replaces its first bytes."""
    code = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320).index(kbits)
    size = 144 * kbits * 1000 // 32_000
    return bytes((0xFF, 0xFB, code << 4 | 0x08, 0xC0)) + head.ljust(size - 4, bytes((fill,)))


def mp3(seconds: float) -> bytes:
    """Return MP3 audio of a constant bit rate, without tags."""
    return mp3_frame() * round(seconds / 0.036)


def xing(frames: int, name: bytes = b"Xing") -> bytes:
    """Return a first frame with a table that counts this many frames."""
    return mp3_frame(head=b"\0" * 17 + name + struct.pack(">II", 1, frames))


def id3(size: int) -> bytes:
    """Return an ID3v2 tag with this many bytes of content, which looks like frames."""
    parts = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\4\0\0" + parts + (b"\xff\xfb\x18\xc0" * (size // 4 + 1))[:size]


def box(name: bytes, *contents: bytes, size: int | None = None) -> bytes:
    """Return a box of an MP4 file; `size` is a declared one."""
    content = b"".join(contents)
    return struct.pack(">I", 8 + len(content) if size is None else size) + name + content


def mp4_track(handler: bytes = b"vide", scale: int = 1000, number: int = 1) -> bytes:
    """Return a track without samples."""
    head = box(b"tkhd", struct.pack(">IIIII", 0, 0, 0, number, 0), bytes(60))
    media = box(b"mdhd", struct.pack(">IIIII", 0, 0, 0, scale, 0), bytes(4))
    return box(b"trak", head, box(b"mdia", media, box(b"hdlr", bytes(8), handler, bytes(13))))


def mp4_head(seconds: float, *tracks: bytes, scale: int = 1000) -> bytes:
    """Return the box `moov` of a movie; without tracks, one of video."""
    ticks = round(seconds * scale)
    movie = box(b"mvhd", struct.pack(">IIIII", 0, 0, 0, scale, ticks), bytes(80))
    return box(b"moov", movie, *(tracks or (mp4_track(),)))


FTYP = box(b"ftyp", b"isom\0\0\2\0isommp41")
FTYP_MOV = box(b"ftyp", b"qt  \0\0\2\0qt  ")
MDAT = box(b"mdat", bytes(500))


def mp4(seconds: float) -> bytes:
    """Return an MP4 file whose header is before its data."""
    return FTYP + mp4_head(seconds) + MDAT


def pdf(pages: int, **encryption: Any) -> bytes:
    """Return a PDF file of blank pages, page N being 100 + N points wide."""
    writer = PdfWriter()
    for index in range(pages):
        writer.add_blank_page(100 + index, 200)
    if encryption:
        writer.encrypt(**encryption)
    target = io.BytesIO()
    writer.write(target)
    return target.getvalue()
