"""How things are shown: tables on a console, and lines, which do not wait for rich's import."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO

import click

from bulkembed.pipeline.logs import printable
from bulkembed.schemas.secrets import masked

if TYPE_CHECKING:
    from rich.console import Console

FILE_WIDTH = 1000
"""Of a table off a terminal: a row is one line, for grep."""


def console(stream: TextIO) -> Console:
    """A console on a stream; plain where it is no terminal or NO_COLOR is set."""
    from rich.console import Console

    return Console(file=stream, highlight=False, soft_wrap=True)


def show_lines(lines: Iterable[tuple[str, str]], stream: TextIO) -> None:
    """Prints names and texts, a pair a line, the texts under one another."""
    pairs = list(lines)
    width = max((len(name) for name, _ in pairs), default=0)
    for name, text in pairs:
        click.echo(printable(masked(f"{name:<{width}}  {text}")), stream)
