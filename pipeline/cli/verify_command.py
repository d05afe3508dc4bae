"""`bulkembed verify`: opens every part of a dataset, and shows what is wrong with it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from bulkembed.pipeline import streams
from bulkembed.pipeline.cli.options import SectionCommand
from bulkembed.pipeline.cli.pinned_run import SERVICE_OPTIONS, given_service, request_of
from bulkembed.pipeline.logs import printable, set_log

if TYPE_CHECKING:
    from bulkembed.pipeline.verify.verify import Report

MOST_SAMPLED = 10_000
"""Their texts and vectors are in memory."""


@click.command(
    cls=SectionCommand,
    params=list(SERVICE_OPTIONS),
    context_settings={"max_content_width": 100},
)
@click.argument("output", metavar="OUT")
@click.option(
    "--against", multiple=True, metavar="PATTERN",
    help="Input that OUT was made of, written as it was for --input: every row of it must be "
    "there, under its id and with its text; repeatable.",
)  # fmt: skip
@click.option(
    "--sample", type=click.IntRange(0, MOST_SAMPLED), default=0, metavar="N",
    help="Embed N rows anew, and compare; their texts are read from --against, else from the "
    "input of OUT's last run.",
)  # fmt: skip
@click.option("--repeated-ids", is_flag=True, help="Ids of the input may repeat: do not compare.")
@click.option(
    "--repair", "repairs", is_flag=True,
    help="Repair the dataset: move what is damaged to OUT/_run/aside/, and rebuild the records "
    "of whole parts.  The next run embeds the other rows again.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.pass_context
def verify(
    ctx: click.Context,
    /,
    output: str,
    against: tuple[str, ...],
    sample: int,
    repeated_ids: bool,
    repairs: bool,
    as_json: bool,
    **_: Any,
) -> None:
    """Read every part of OUT, and hold it against its records, its settings and its input.

    Exit code 0: nothing is wrong; 1: something is, and the table says what.  The service is only
    called for --sample.
    """
    from bulkembed.pipeline.verify.verify import VerifyRequest
    from bulkembed.pipeline.verify.verify import verify as look
    from bulkembed.transforms.dataset import run_file
    from bulkembed.transforms.dataset.dataset import Dataset

    set_log("warning")
    if repairs:
        _repair(output, as_json=as_json)
        return
    made_by = None
    if against or sample:
        pinned = run_file.read(Dataset.open(output))
        patterns = {"patterns": against} if against else {}
        given = {**given_service(ctx), **patterns}
        made_by = request_of(pinned, given, calls=sample > 0)
    report = look(VerifyRequest(output, made_by, bool(against), sample, not repeated_ids))
    with streams.showing(keep_code=True):
        if as_json:
            click.echo(json.dumps(report.to_json(), indent=2))
        else:
            _show(report)
    ctx.exit(int(report.exit_code))


def _repair(output: str, *, as_json: bool) -> None:
    from bulkembed.pipeline.cli.show import show_lines
    from bulkembed.pipeline.verify.repair import repair

    done = repair(output)
    if as_json:
        click.echo(json.dumps({"output": output, "repaired": done}, indent=2))
        return
    lines = [("repaired", line) for line in done] or [("repaired", "nothing: no damage was found")]
    if done:
        lines.append(("next", "run the same command again, which embeds what is missing"))
    show_lines(lines, sys.stdout)


def _show(report: Report) -> None:
    from rich.table import Table
    from rich.text import Text

    from bulkembed.pipeline.cli.show import FILE_WIDTH, console, show_lines
    from bulkembed.pipeline.verify.verify import report_lines

    shown = report.shown()
    if shown:
        table = Table(box=None, pad_edge=False)
        for heading in ("check", "where", "what is wrong"):
            table.add_column(heading, overflow="fold")
        for finding in shown:
            cells = (finding.check, finding.where, finding.message)
            table.add_row(*(Text(printable(cell)) for cell in cells))
        out = console(sys.stdout)
        if not out.is_terminal:
            out.width = FILE_WIDTH
        out.print(table)
        hidden = len(report.findings) - len(shown)
        out.print(f"... and {hidden:,} more, see --json\n" if hidden else "")
    show_lines(report_lines(report), sys.stdout)
