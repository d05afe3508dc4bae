"""`bulkembed compact`."""

from __future__ import annotations

import dataclasses
import json
import sys

import click

from bulkembed.pipeline import streams
from bulkembed.pipeline.cli.commands import ByteSize, Command
from bulkembed.pipeline.compact.merge_plan import TARGET_BYTES
from bulkembed.pipeline.logs import log, set_log
from bulkembed.pipeline.runners import signals
from bulkembed.schemas.stop import ExitCode


@click.command(
    cls=Command,
    examples=(
        "bulkembed compact out/docs",
        "bulkembed compact s3://bucket/out/docs --target-file-size 1GB",
    ),
)
@click.argument("output", metavar="OUT")
@click.option(
    "--target-file-size", type=ByteSize(), default=f"{TARGET_BYTES // 10**6}MB",
    show_default=True, metavar="SIZE",
    help="Maximum size of a merged file. Files of half this size or more stay as they are.",
)  # fmt: skip
@click.option(
    "--keep-superseded", is_flag=True,
    help="Keep the files that are replaced until the next complete run, for readers that open the "
    "files that `bulkembed parts` lists. Readers of the whole folder read both.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def compact(
    ctx: click.Context,
    /,
    output: str,
    target_file_size: int,
    keep_superseded: bool,
    as_json: bool,
) -> None:
    """Merge the small files of a complete dataset into large ones.

    OUT is the folder of the dataset. Sends no request. Units with failed rows keep their files, so
    that the rows can be retried.
    """
    from bulkembed.pipeline.cli.show import show_lines
    from bulkembed.pipeline.compact.compact import compact as compact_dataset
    from bulkembed.pipeline.compact.compact import result_lines

    set_log("warning")
    try:
        with signals.raise_interrupts():
            result = compact_dataset(output, target_file_size, keep_superseded=keep_superseded)
    except KeyboardInterrupt:
        log.error("Interrupted. Rerun the same command to resume.")
        ctx.exit(int(ExitCode.INCOMPLETE))
    with streams.showing(keep_code=True):
        if as_json:
            click.echo(json.dumps(dataclasses.asdict(result), indent=2))
        else:
            show_lines(result_lines(result), sys.stdout)
