"""Compressed bodies, as fast as they allow: gzip is half of what a compressed answer costs."""

from __future__ import annotations

import zlib
from typing import Any

import httpx2

from schemas.errors import BadAnswer

isal_zlib: Any
try:
    from isal import isal_zlib
except ImportError:  # Optional: three times as fast as zlib, where it is installed.
    isal_zlib = None

_GZIP_WINDOW = 31
"""Window bits that ask for a gzip header: 15, and 16 for the header."""


def inflate(body: bytes, encoding: str) -> bytes:
    """The content of a body that was sent with a `content-encoding`.

    Raises:
        BadAnswer: the body is cut short, or not what the header says.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    try:
        if encoding == "gzip":
            return _gunzip(body)
        return httpx2.Response(200, headers={"content-encoding": encoding}, content=body).content
    except (zlib.error, ValueError, EOFError, httpx2.DecodingError) as error:
        raise BadAnswer(f"the answer cannot be decompressed: {error}", code="encoding") from None


def _gunzip(body: bytes) -> bytes:
    if isal_zlib is None:
        return zlib.decompress(body, _GZIP_WINDOW)
    try:
        content: bytes = isal_zlib.decompress(body, _GZIP_WINDOW)
    except isal_zlib.error as error:
        raise ValueError(error) from None
    return content
