"""Parts of sentences that many messages need."""

from __future__ import annotations

import difflib
from collections.abc import Collection


def number_of(count: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun: `1 row`, `2,500 rows`."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def size_of(size_bytes: int) -> str:
    """Return a size with its unit: `12.5 MiB`, `1.2 GiB`."""
    gib = size_bytes / 2**30
    return f"{gib:.1f} GiB" if gib >= 1 else f"{size_bytes / 2**20:.1f} MiB"


def content_noun(*, has_media: bool) -> str:
    """Return the noun for what is sent for a row: a content, if rows have media, or a text."""
    return "content" if has_media else "text"


def did_you_mean(word: str, known: Collection[str]) -> str:
    """Return the sentence that suggests the known word nearest to a word, or "" if none is near."""
    by_lower = {one.lower(): one for one in known}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.65)
    return f"Did you mean {by_lower[near[0]]}?" if near else ""
