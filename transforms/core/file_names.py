r"""Convert names of local files to a form that can be shown and stored, and back.

A name is a sequence of bytes. Python represents bytes that are not UTF-8 as lone surrogates, which
neither JSON, Parquet nor pyarrow accepts. The readable form of `caf<E9>.parquet` is
`caf\xe9.parquet`.
"""

from __future__ import annotations

import re

_OTHER_BYTE = re.compile("[\udc80-\udcff]")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")


def readable_name(name: str) -> str:
    r"""Return the readable form of a name or path of the operating system.

    A name in UTF-8 does not change. In other names, each byte that is not UTF-8 becomes `\xHH`,
    and a backslash becomes `\x5c`. The same holds for a name that looks like the readable form
    of another one.
    """
    return "/".join(map(_readable, name.split("/")))


def _readable(name: str) -> str:
    if not _ESCAPED.search(name) and (name.isascii() or not _OTHER_BYTE.search(name)):
        return name
    return "".join(map(_escaped, name))


def native_name(name: str) -> str:
    """Return the name of a readable form, as the operating system expects it."""
    if "\\x" not in name:
        return name
    data = _ESCAPED.sub(lambda match: _character(int(match[1], 16)), name)
    return data.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def _escaped(character: str) -> str:
    if character == "\\":
        return "\\x5c"
    return f"\\x{ord(character) - 0xDC00:02x}" if _OTHER_BYTE.match(character) else character


def _character(byte: int) -> str:
    return chr(byte) if byte < 0x80 else chr(0xDC00 + byte)
