"""Standard input, output and error that are closed, full, or no longer read by anybody."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

from bulkembed.pipeline.logs import log
from bulkembed.schemas.errors import OutputError

_STREAMS = (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w"))


def open_all() -> None:
    """Open the null device in place of each stream that the process was started without.

    Otherwise the next file that is opened gets the stream's number, and what is meant for the
    stream is written into that file.
    """
    for name, number, mode in _STREAMS:
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:
                _to_nowhere(number)
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - to the end


@contextlib.contextmanager
def showing(*, keep_code: bool = False) -> Iterator[None]:
    """Show a result on standard output; a reader that has closed it is not an error.

    Args:
        keep_code: whether the command ends as it would have, although the result cannot be written.

    Raises:
        OutputError: it cannot be written, such as to a full disk, and `keep_code` is not set.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        if error.errno == errno.EPIPE:
            _drop(sys.stdout, 1)
            return
        _drop(sys.stdout, 1)
        sentence = f"the result cannot be written to standard output: {error.strerror}"
        if not keep_code:
            raise OutputError(sentence) from None
        log.warning("%s", sentence)


def settle() -> None:
    """Flush the streams; a failure does not change the exit code."""
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except (OSError, ValueError):
            _drop(stream, number)


def _drop(stream: object, number: int) -> None:
    """Send what a stream still holds to the null device, because Python flushes it at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if stream.fileno() == number:  # type: ignore[attr-defined]  # a stream of tests has none
            _to_nowhere(number)


def _to_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)
