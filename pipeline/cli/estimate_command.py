"""`bulkembed estimate`: what a run would send and cost, before anything is sent."""

from __future__ import annotations

import copy
import json
import sys
from typing import Any

import click

from bulkembed.pipeline import streams
from bulkembed.pipeline.cli.commands import BEAM_ARGS, Command, Option
from bulkembed.pipeline.cli.options import OPTIONS
from bulkembed.pipeline.cli.other_output import naming_commands
from bulkembed.pipeline.cli.run_command import request_from
from bulkembed.pipeline.logs import set_log


def _optional(option: Option) -> Option:
    optional = copy.copy(option)
    optional.required, optional.default = False, ""
    optional.help = "Existing dataset. Rows committed there are not counted."
    return optional


EXAMPLES = (
    "bulkembed estimate --input 'docs/*.parquet'",
    "bulkembed estimate --input s3://bucket/in --sample 1% --tier 2",
    "bulkembed estimate --config job.yaml --json",
)


@click.command(
    "estimate",
    cls=Command,
    params=[_optional(option) if option.name == "output" else option for option in OPTIONS],
    examples=EXAMPLES,
    takes_beam_options=True,
)
@click.option(
    "--sample", metavar="NUMBER|PERCENT",
    help="Read about this many rows, in units chosen at random. Duplicates are then found within "
    "units only.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def estimate(ctx: click.Context, /, sample: str | None, as_json: bool, **options: Any) -> None:
    """Estimate the requests, tokens, cost and duration of a run.

    Takes the options of `bulkembed run`. Reads all texts, or a --sample of them. Sends and writes
    nothing, and needs no key.
    """
    from bulkembed.pipeline.cli.show import show_lines
    from bulkembed.pipeline.estimate.estimate import estimate as estimate_run
    from bulkembed.pipeline.estimate.result import estimate_lines
    from bulkembed.pipeline.estimate.sampling import parse_sample

    set_log("warning")
    request = request_from(options, ctx.meta.get(BEAM_ARGS, ()))
    with naming_commands(ctx):
        found = estimate_run(request, parse_sample(sample))
    with streams.showing():
        if as_json:
            click.echo(json.dumps(found.to_json(), indent=2))
        else:
            show_lines(estimate_lines(found), sys.stdout)
