"""Small files of sound, video and PDF pages, written without a library."""

from __future__ import annotations

import io
import math
import struct
import wave

MP3_FRAME_S = 1152 / 44_100


def wav(seconds: float, hertz: float = 440.0, rate: int = 8000) -> bytes:
    """Return a WAV file of a tone."""
    tone = (int(9000 * math.sin(2 * math.pi * hertz * step / rate)) for step in range(rate))
    second = b"".join(struct.pack("<h", one) for one in tone)
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        frames = round(seconds * rate) * 2
        file.writeframes((second * math.ceil(seconds))[:frames])
    return target.getvalue()


def mp3(frames: int, tag: bytes = b"") -> bytes:
    """Return an MP3 file of silent frames, after an ID3 tag with these bytes."""
    head = b""
    if tag:
        size = bytes(len(tag) >> shift & 127 for shift in (21, 14, 7, 0))
        head = b"ID3\x04\0\0" + size + tag
    frame = b"\xff\xfb\x90\xc4".ljust(417, b"\0")  # MPEG 1, layer III, 128 kbit/s, 44,100 Hz.
    return head + frame * frames


def movie(
    seconds: float, *, sound: bool = False, brand: bytes = b"isom", own: bytes = b""
) -> bytes:
    """Return the boxes of an MP4 file (a MOV file with the brand `qt  `) without any frames."""
    handlers = [b"vide", *([b"soun"] if sound else [])]
    header = struct.pack(">IIIII", 0, 0, 0, 1000, round(seconds * 1000)) + bytes(80)
    tracks = [
        _box(b"trak", _box(b"mdia", _box(b"hdlr", bytes(8) + handler + bytes(13))))
        for handler in handlers
    ]
    moov = _box(b"moov", _box(b"mvhd", header) + b"".join(tracks))
    return _box(b"ftyp", brand + bytes(4) + brand) + _box(b"mdat", own) + moov


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def pdf(*pages: str) -> bytes:
    """Return a PDF file with a line of text on each page; an empty one has none."""
    count = len(pages)
    kids = " ".join(f"{4 + 2 * page} 0 R" for page in range(count))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {count} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for page, text in enumerate(pages):
        shown = f"BT /F1 18 Tf 40 700 Td ({text}) Tj ET" if text else ""
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents {5 + 2 * page} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        objects.append(f"<< /Length {len(shown)} >>\nstream\n{shown}\nendstream")
    body, places = "%PDF-1.4\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(body))
        body += f"{number} 0 obj\n{one}\nendobj\n"
    rows = "".join(f"{place:010d} 00000 n \n" for place in places)
    size = len(objects) + 1
    end = f"trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF\n"
    return f"{body}xref\n0 {size}\n0000000000 65535 f \n{rows}{end}".encode()
