"""`bulkembed report`: one page about a dataset, for a browser."""

from __future__ import annotations

import click


@click.command()
@click.argument("output", metavar="OUT")
def report(output: str) -> None:
    """Write OUT/report.html: rows, a map of the texts, pace, cost and dead letters, in one file.

    The page needs no network.  It shows texts and ids of the dataset.
    """
    from pipeline.logs import set_log
    from pipeline.report.write import write_report

    set_log("warning")
    click.echo(write_report(output))
