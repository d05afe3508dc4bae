"""`bulkembed search`: the rows of a dataset that are nearest to a query."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from bulkembed.pipeline import streams
from bulkembed.pipeline.cli.options import SectionCommand
from bulkembed.pipeline.cli.pinned_run import SERVICE_OPTIONS, given_service, request_of
from bulkembed.pipeline.logs import printable, set_log
from bulkembed.schemas.models import TaskType

if TYPE_CHECKING:
    from bulkembed.pipeline.search.search import Found

SHOWN_CHARS = 80
"""Of a kept column's text, in the table."""
HIDDEN = ("text_hash", "truncated", "source_file", "source_row")
"""Columns that only --json has."""


@click.command(
    cls=SectionCommand,
    params=list(SERVICE_OPTIONS),
    context_settings={"max_content_width": 100},
)
@click.argument("output", metavar="OUT")
@click.argument("query")
@click.option(
    "-k", "k", type=click.IntRange(min=1), default=10, show_default=True, help="How many rows."
)
@click.option(
    "--task-type",
    type=click.Choice([str(task) for task in TaskType], case_sensitive=False),
    metavar="TYPE",
    help="Of the query.  [default: RETRIEVAL_QUERY for documents, else the dataset's own]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.pass_context
def search(
    ctx: click.Context,
    /,
    output: str,
    query: str,
    k: int,
    task_type: str | None,
    as_json: bool,
    **_: Any,
) -> None:
    """List the rows of OUT that are nearest to QUERY, by cosine, exactly.

    The query is embedded with the model, dim and service of the dataset.  One text is sent.
    """
    from bulkembed.pipeline.search.search import search as look
    from bulkembed.transforms.dataset import run_file
    from bulkembed.transforms.dataset.dataset import Dataset

    set_log("warning")
    dataset = Dataset.open(output)
    pinned = run_file.read(dataset)
    request = request_of(pinned, given_service(ctx), reads=False)
    found = look(pinned, dataset, request, query, k, TaskType(task_type) if task_type else None)
    with streams.showing():
        if as_json:
            click.echo(json.dumps(found.to_json(), indent=2, ensure_ascii=False, default=_plain))
        else:
            _show(found)


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _show(found: Found) -> None:
    import textwrap

    from rich.table import Table
    from rich.text import Text

    from bulkembed.pipeline.cli.show import FILE_WIDTH, console

    table = Table(box=None, pad_edge=False)
    names = [name for name in (found.rows[0] if found.rows else ()) if name not in HIDDEN]
    for name in names:
        table.add_column(Text(printable(name)), overflow="fold")
    for row in found.rows:
        cells = [printable(" ".join(str(row[name]).split())) for name in names[1:]]
        short = [textwrap.shorten(cell, SHOWN_CHARS, placeholder="...") for cell in cells]
        table.add_row(*map(Text, (f"{row['score']:.4f}", *short)))
    out = console(sys.stdout)
    if not out.is_terminal:
        out.width = FILE_WIDTH
    out.print(table if found.rows else "no row has a vector yet")
