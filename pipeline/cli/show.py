"""Tables and lines on the standard output, for people and for grep."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, TextIO

import click

from bulkembed.pipeline.logs import printable
from bulkembed.schemas.secrets import masked

if TYPE_CHECKING:
    from rich.console import Console, JustifyMethod

FILE_WIDTH = 1000
"""Characters of a table that is not folded: each row is one line."""


def console(stream: TextIO) -> Console:
    """Return a console on a stream: plain if it is not a terminal or NO_COLOR is set."""
    from rich.console import Console

    return Console(file=stream, highlight=False, soft_wrap=True)


def show_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    stream: TextIO,
    *,
    right: Collection[str] = (),
    folds: bool = True,
) -> None:
    """Print rows under headings. On a terminal, a cell that is too wide fills several lines.

    Elsewhere each row is one line without blanks at its end, and control characters are escaped
    everywhere.

    Args:
        headings: one per column.
        rows: a cell per column.
        stream: the output.
        right: the headings of columns whose cells are aligned at the right, such as numbers.
        folds: whether to fit the table to a terminal.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in headings:
        justify: JustifyMethod = "right" if heading in right else "left"
        table.add_column(Text(printable(heading)), overflow="fold", justify=justify)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    out = console(stream)
    if out.is_terminal and folds:
        out.print(table)
        return
    out.width = FILE_WIDTH
    with out.capture() as printed:
        out.print(table)
    for line in printed.get().removesuffix("\n").split("\n"):
        click.echo(line.rstrip(), stream)


def show_lines(lines: Iterable[tuple[str, str]], stream: TextIO) -> None:
    """Print names and texts, one pair per line, with the texts aligned; rich is not imported."""
    pairs = list(lines)
    width = max((len(name) for name, _ in pairs), default=0)
    for name, text in pairs:
        click.echo(printable(masked(f"{name:<{width}}  {text}")).rstrip(), stream)
