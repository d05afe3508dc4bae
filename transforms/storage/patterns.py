"""Globs: which paths a pattern matches, and where its root is."""

from __future__ import annotations

import dataclasses
import re

_MAGIC = re.compile(r"[*?\[]")


def has_magic(path: str) -> bool:
    """Whether a path has characters that a glob gives a meaning to."""
    return _MAGIC.search(path) is not None


@dataclasses.dataclass(frozen=True)
class Glob:
    """A glob taken apart: the folder that it begins in, and the pattern below that folder."""

    root: str
    """The longest run of whole folders without `*`, `?` or `[`."""
    below: str

    @property
    def max_depth(self) -> int | None:
        """How many folders deep a match can lie below the root; None for any."""
        parts = self.below.split("/")
        return None if "**" in parts else len(parts) - 1

    def matches(self, name: str) -> bool:
        """Whether a path relative to the root, with `/`, is matched."""
        return self._regex.fullmatch(name) is not None

    @property
    def _regex(self) -> re.Pattern[str]:
        return _compile(self.below)


def split_glob(path: str) -> Glob:
    """The root and the rest of a path that has magic characters."""
    parts = path.split("/")
    first = next(place for place, part in enumerate(parts) if has_magic(part))
    return Glob("/".join(parts[:first]) or "/", "/".join(filter(None, parts[first:])))


def _compile(glob: str) -> re.Pattern[str]:
    """A regex over whole relative paths; re keeps compiled ones, so this is cheap to repeat.

    `*`, `?` and `[...]` stay within one folder; `**` alone between slashes is any number of
    folders, none included; at the end it is every file below.
    """
    parts = glob.split("/")
    regex = ""
    for place, part in enumerate(parts):
        last = place == len(parts) - 1
        if part == "**":
            regex += ".+" if last else "(?:[^/]+/)*"
        else:
            regex += _segment(part) + ("" if last else "/")
    return re.compile(regex, re.DOTALL)


def _segment(part: str) -> str:
    regex, place = "", 0
    while place < len(part):
        piece, place = _next_piece(part, place)
        regex += piece
    return regex


def _next_piece(part: str, place: int) -> tuple[str, int]:
    char = part[place]
    if char == "*":
        return "[^/]*", place + 1
    if char == "?":
        return "[^/]", place + 1
    # The first character of a class may itself be `]`.
    end = part.find("]", place + 2 + (part[place + 1 : place + 2] == "!")) if char == "[" else -1
    if end < 0:
        return re.escape(char), place + 1
    return _char_class(part[place + 1 : end]), end + 1


def _char_class(inside: str) -> str:
    negated = inside.startswith("!")
    chars = inside[1:] if negated else inside
    ranges = re.sub(r"([\\\[\]^&~|])", r"\\\1", chars).replace("--", r"-\-")
    try:
        re.compile(f"[{ranges}]")
    except re.error:  # A range that runs backwards, [z-a], matches nothing.
        return "(?!)"
    return f"(?!/)[{'^' if negated else ''}{ranges}]"
