"""Files that a user names for a result."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from bulkembed.schemas.errors import OutputError


@contextlib.contextmanager
def result_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that gets its name when it is complete, and keeps its former content until then.

    A link stays a link, and what is no file, such as a pipe or /dev/null, is written directly.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as stream:
                yield stream
            return
        target = path.resolve()
        part = target.with_name(f".{target.name}.tmp")
        try:
            with part.open("wb") as stream:
                yield stream
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
