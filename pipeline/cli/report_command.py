"""`bulkembed report`: one page about a dataset, for a browser."""

from __future__ import annotations

import click

from pipeline import streams


@click.command()
@click.argument("output", metavar="OUT")
def report(output: str) -> None:
    """Write OUT/report.html: rows, a map of the texts, pace, cost and dead letters, in one file.

    The page needs no network.  It shows texts and ids of the dataset.
    """
    from pipeline.logs import set_log
    from pipeline.report.write import write_report

    set_log("warning")
    place = write_report(output)
    with streams.showing(keep_code=True):
        click.echo(place)
