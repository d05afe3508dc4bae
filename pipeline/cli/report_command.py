"""`bulkembed report`: one page about a dataset, for a browser."""

from __future__ import annotations

import click

from bulkembed.pipeline import streams


@click.command()
@click.argument("output", metavar="OUT")
def report(output: str) -> None:
    """Write OUT/_run/report.html: rows, a map of the texts, pace, cost and dead letters.

    It is one file and needs no network. It shows texts and ids of the dataset. The command prints
    its path.
    """
    from bulkembed.pipeline.logs import set_log
    from bulkembed.pipeline.report.page import write_report

    set_log("warning")
    place = write_report(output)
    with streams.showing(keep_code=True):
        click.echo(place)
