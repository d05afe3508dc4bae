"""Standard input, output and error that are closed, full, or no longer read."""

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

    Otherwise the next file to be opened gets the stream's number, and the stream's text would be
    written into that file.
    """
    for name, number, mode in _STREAMS:
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:
                _redirect_to_null(number)
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - open until exit


@contextlib.contextmanager
def showing(*, keep_code: bool = False) -> Iterator[None]:
    """Show a result on standard output. It is not an error if the reader has closed it.

    Args:
        keep_code: whether to keep the exit code of the command if the result cannot be written.

    Raises:
        OutputError: the result cannot be written, such as to a full disk, and `keep_code` is False.
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
    """Redirect a stream to the null device, because Python flushes its buffer at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if stream.fileno() == number:  # type: ignore[attr-defined]  # a stream of tests has none
            _redirect_to_null(number)


def _redirect_to_null(number: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)
