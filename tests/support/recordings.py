"""Small files of video and of printed pages, written without a library."""

from __future__ import annotations

import struct

from support.media_samples import box


def movie(
    seconds: float, *, sound: bool = False, brand: bytes = b"isom", own: bytes = b""
) -> bytes:
    """Return the boxes of an MP4 file (a MOV file with the brand `qt  `) without any frames."""
    handlers = [b"vide", *([b"soun"] if sound else [])]
    header = struct.pack(">IIIII", 0, 0, 0, 1000, round(seconds * 1000)) + bytes(80)
    tracks = [
        box(b"trak", box(b"mdia", box(b"hdlr", bytes(8) + handler + bytes(13))))
        for handler in handlers
    ]
    moov = box(b"moov", box(b"mvhd", header) + b"".join(tracks))
    return box(b"ftyp", brand + bytes(4) + brand) + box(b"mdat", own) + moov


def printed(*pages: str) -> bytes:
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
