"""A stable name for a text as it was sent."""

from __future__ import annotations

import hashlib

HASH_BYTES = 16


def text_hash(title: str | None, text: str) -> bytes:
    """16 bytes of BLAKE2b over title and text as sent, each behind its length.

    The lengths (8 bytes, little endian, of the UTF-8) keep ("ab", "c") and ("a", "bc") apart.
    Texts of equal hash get equal vectors under one embedding digest.
    """
    title_bytes = (title or "").encode()
    text_bytes = text.encode()
    digest = hashlib.blake2b(len(title_bytes).to_bytes(8, "little"), digest_size=HASH_BYTES)
    digest.update(title_bytes)
    digest.update(len(text_bytes).to_bytes(8, "little"))
    digest.update(text_bytes)
    return digest.digest()
