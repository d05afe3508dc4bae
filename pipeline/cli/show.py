"""Tables on a console, and plain lines, which do not import rich."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO

import click

from bulkembed.pipeline.logs import printable
from bulkembed.schemas.secrets import masked

if TYPE_CHECKING:
    from rich.console import Console

FILE_WIDTH = 1000
"""Characters of a table that is not on a terminal: each row is one line, for grep."""


def console(stream: TextIO) -> Console:
    """Return a console on a stream: plain if it is not a terminal or NO_COLOR is set."""
    from rich.console import Console

    return Console(file=stream, highlight=False, soft_wrap=True)


def show_lines(lines: Iterable[tuple[str, str]], stream: TextIO) -> None:
    """Print names and texts, one pair per line, with the texts aligned."""
    pairs = list(lines)
    width = max((len(name) for name, _ in pairs), default=0)
    for name, text in pairs:
        click.echo(printable(masked(f"{name:<{width}}  {text}")), stream)
