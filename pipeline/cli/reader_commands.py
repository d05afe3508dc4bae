"""The commands for programs that read a dataset: `parts`."""

from __future__ import annotations

import json

import click

from bulkembed.pipeline import streams
from bulkembed.pipeline.cli.commands import Command
from bulkembed.pipeline.logs import set_log

_output = click.argument("output", metavar="OUT")
_json_flag = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command(
    cls=Command,
    examples=("bulkembed parts out/docs", "bulkembed parts s3://bucket/docs --json"),
)
@_output
@_json_flag
def parts(output: str, as_json: bool) -> None:
    """List the files with the vectors of a dataset's last complete state.

    Prints a path or URI per line. The files stay until the next run is complete, so readers that
    open them see that state also while a run is writing.
    """
    from bulkembed.pipeline.run.publish import published_state

    set_log("warning")
    manifest = published_state(output)
    paths = [f"{output.rstrip('/')}/{part.name}" for part in manifest.parts]
    with streams.showing():
        if not as_json:
            for path in paths:
                click.echo(path)
            return
        found = {
            "run_id": manifest.run_id,
            "created": manifest.created,
            "parts": [
                {"path": path, "rows": part.rows, "size_bytes": part.size_bytes}
                for path, part in zip(paths, manifest.parts, strict=True)
            ],
        }
        click.echo(json.dumps(found, indent=2))
