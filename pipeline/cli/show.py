"""How things are shown: one console, one log, one line for an error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import TextIO

from rich.console import Console

FILE_WIDTH = 1000
"""Of a table off a terminal: a row is one line, for grep."""
NOISY = ("apache_beam", "google_genai", "httpx2", "httpcore2", "root")


def console(stream: TextIO) -> Console:
    """A console on a stream; plain where it is no terminal or NO_COLOR is set."""
    return Console(file=stream, highlight=False, soft_wrap=True)


def show_lines(lines: Iterable[tuple[str, str]], stream: TextIO) -> None:
    """Prints names and texts, a pair a line, the texts under one another."""
    pairs = list(lines)
    width = max((len(name) for name, _ in pairs), default=0)
    out = console(stream)
    for name, text in pairs:
        out.print(f"{name:<{width}}  {text}", markup=False)


def set_log_level(level: str) -> None:
    """Sends our own log to standard error, and that of libraries only when debugging."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("bulkembed: %(message)s"))
    logger = logging.getLogger("bulkembed")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(level.upper())
    if level != "debug":
        logging.getLogger().setLevel(logging.ERROR)
        for name in NOISY:
            logging.getLogger(name).setLevel(logging.ERROR)
