"""`bulkembed status`: what is done, left and dead of a dataset, also while a run is at work."""

from __future__ import annotations

import json
import sys

import click

from bulkembed.pipeline import streams


@click.command()
@click.argument("output", metavar="OUT")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of lines.")
def status(output: str, as_json: bool) -> None:
    """Show what is done, left, dead by reason and spent, from the commit records of OUT."""
    from bulkembed.pipeline.cli.show import show_lines
    from bulkembed.pipeline.run.status import read_status, status_lines

    found = read_status(output)
    with streams.showing():
        if as_json:
            click.echo(json.dumps(found.to_json(), indent=2))
        else:
            show_lines(status_lines(found), sys.stdout)
