"""`bulkembed estimate`: what a run would send, cost and last, before anything is sent."""

from __future__ import annotations

import copy
import json
import sys
from typing import Any

import click

from bulkembed.pipeline import streams
from bulkembed.pipeline.cli.options import BEAM_ARGS, OPTIONS, SectionCommand, SectionOption
from bulkembed.pipeline.cli.run_command import request_from
from bulkembed.pipeline.logs import set_log


def _options() -> list[click.Parameter]:
    """Those of `run`; --output may be left out."""
    return [_optional(option) if option.name == "output" else option for option in OPTIONS]


def _optional(option: SectionOption) -> SectionOption:
    optional = copy.copy(option)
    optional.required, optional.default = False, ""
    optional.help = "Folder of a dataset: what is committed there need not be done."
    return optional


@click.command(
    "estimate",
    cls=SectionCommand,
    params=_options(),
    context_settings={"max_content_width": 100},
)
@click.option(
    "--sample", metavar="N|P%",
    help="Look at about so many rows, in units drawn at random; repeats are then found within "
    "units only.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of lines.")
@click.pass_context
def estimate(ctx: click.Context, /, sample: str | None, as_json: bool, **options: Any) -> None:
    """Say what `bulkembed run` with these flags would send, cost and last.

    Reads all texts, or a --sample of them.  Nothing is sent or written, and no key is needed.
    Flags of `run` that do not bear on it are taken, so that one command line does for both.
    """
    from bulkembed.pipeline.cli.show import show_lines
    from bulkembed.pipeline.estimate.estimate import estimate as look
    from bulkembed.pipeline.estimate.result import estimate_lines
    from bulkembed.pipeline.estimate.sampling import parse_sample

    set_log("warning")
    request = request_from(options, ctx.meta.get(BEAM_ARGS, ()))
    found = look(request, parse_sample(sample))
    with streams.showing():
        if as_json:
            click.echo(json.dumps(found.to_json(), indent=2))
        else:
            show_lines(estimate_lines(found), sys.stdout)
