r"""Names of local files as text that can be shown, stored and turned back.

A name is bytes.  Python gives those that are no UTF-8 as lone surrogates, which no file of JSON or
Parquet holds, and pyarrow takes no such string.  The readable form of `caf<E9>.parquet` is
`caf\xe9.parquet`.
"""

from __future__ import annotations

import re

_OTHER_BYTE = re.compile("[\udc80-\udcff]")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")


def readable_name(name: str) -> str:
    r"""Return the readable form of a name or path that the operating system gave.

    A name that is UTF-8 stays as it is.  In others each byte that is no UTF-8 becomes `\xHH`, and a
    backslash `\x5c`; so it does in a name that looks like the readable form of another one.
    """
    return "/".join(map(_readable, name.split("/")))


def _readable(name: str) -> str:
    if not _ESCAPED.search(name) and (name.isascii() or not _OTHER_BYTE.search(name)):
        return name
    return "".join(map(_escaped, name))


def native_name(name: str) -> str:
    """Return the name that a readable form stands for, as the operating system takes it."""
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
