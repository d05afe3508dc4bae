"""`bulkembed batches`: list and cancel the batch jobs of a dataset."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from bulkembed.pipeline import streams
from bulkembed.pipeline.cli.commands import Command
from bulkembed.pipeline.cli.options import BATCH_BUCKET, SERVICE_OPTIONS
from bulkembed.pipeline.logs import log, set_log
from bulkembed.schemas.batch import Mode
from bulkembed.schemas.messages import number_of

if TYPE_CHECKING:
    from bulkembed.pipeline.batch.job_list import ListedJob

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"))


@click.command(
    cls=Command,
    params=[*SERVICE_OPTIONS, BATCH_BUCKET],
    examples=("bulkembed batches out/docs", "bulkembed batches out/docs --cancel"),
)
@click.argument("output", metavar="OUT")
@click.option(
    "--cancel", is_flag=True,
    help="Cancel the open jobs. A later run with --mode batch submits their texts again.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def batches(
    ctx: click.Context, /, output: str, cancel: bool, as_json: bool, bucket: str | None, **_: Any
) -> None:
    """List and cancel the batch jobs of a dataset.

    OUT is the folder of the dataset. Prints state, age, texts, tokens and cost by the ledger of the
    dataset, and asks the service for --cancel only. A job that has ended is "created" until a run
    collects it.
    """
    from bulkembed.pipeline.batch import job_list
    from bulkembed.pipeline.cli.pinned_run import given_service, request_of
    from bulkembed.transforms.dataset import run_file
    from bulkembed.transforms.dataset.dataset import Dataset

    set_log("info" if cancel else "warning")
    if cancel:
        pinned = run_file.read(Dataset.open(output))
        given = given_service(ctx) | {"mode": Mode.BATCH, "bucket": bucket}
        cancelled = job_list.cancel_jobs(output, request_of(pinned, given, reads=False))
        log.info(
            "%s cancelled. The next run with --mode batch collects what was answered before.",
            number_of(cancelled, "open batch job"),
        )
    jobs = job_list.list_jobs(output)
    with streams.showing(keep_code=True):
        if as_json:
            click.echo(json.dumps(job_list.as_json(jobs), indent=2))
        else:
            _show(jobs, job_list.noun_of(output))


def _show(jobs: list[ListedJob], noun: str) -> None:
    from bulkembed.pipeline.cli.show import show_table

    if not jobs:
        click.echo("the dataset has no batch jobs")
        return
    numbers = ("age", f"{noun}s", "tokens", "USD")
    show_table(("job", "state", *numbers, "reason"), map(_cells, jobs), sys.stdout, right=numbers)


def _cells(job: ListedJob) -> tuple[str, ...]:
    at_most = "up to " if job.unconfirmed_tokens else ""
    usd = "" if job.usd is None else f"{at_most}{job.usd:,.4f}"
    numbers = (_age(job.age_s), f"{job.texts:,}", f"{at_most}{job.tokens:,}", usd)
    return (job.name, str(job.state), *numbers, job.reason)


def _age(seconds: float) -> str:
    """Return a time in its largest unit, such as `3 h`."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
