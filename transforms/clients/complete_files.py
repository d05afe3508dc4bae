"""Local files that get their names when they are complete."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bulkembed.schemas.errors import OutputError

PART = ".part"
"""The end of the name of a file that is not complete."""


@contextlib.contextmanager
def written(path: Path) -> Iterator[Path]:
    """Yield the path of a file that gets its name when it is complete.

    Raises:
        OutputError: the disk is full, or the file cannot be written.
    """
    part = path.with_name(path.name + PART)
    try:
        yield part
        part.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"{path} cannot be written: {reason}", reason=reason) from error
    finally:
        part.unlink(missing_ok=True)
