"""The commands for programs that load a dataset: `parts` and `changes`."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from bulkembed.pipeline import streams
from bulkembed.pipeline.cli.commands import Command, WordChoice
from bulkembed.pipeline.cli.result_files import result_file
from bulkembed.pipeline.logs import printable, set_log
from bulkembed.schemas.change_format import ChangeFormat
from bulkembed.schemas.errors import ConfigError
from bulkembed.transforms.core.field_paths import split_names

if TYPE_CHECKING:
    from bulkembed.pipeline.changes.open_changes import Changes

SHOWN_ROWS = 20
"""Rows of the table of `changes`."""

_output = click.argument("output", metavar="OUT")
_json_flag = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command(
    cls=Command,
    examples=("bulkembed parts out/docs", "bulkembed parts s3://bucket/docs --json"),
)
@_output
@_json_flag
def parts(output: str, as_json: bool) -> None:
    """List the vector files of a dataset's last complete state.

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


@click.command(
    cls=Command,
    examples=(
        "bulkembed changes out/docs",
        "bulkembed changes out/docs --since 20261126T030000Z-5f2c1a --format jsonl",
        "bulkembed changes out/docs --since 2026-11-26 --with-vectors --output changes.parquet",
    ),
)
@_output
@click.option(
    "--since", metavar="RUN|TIME", show_default="the state before the last run that changed rows",
    help="The state to compare with: the id of a run, or a time in ISO 8601.",
)  # fmt: skip
@click.option(
    "--format", "kind", type=WordChoice(ChangeFormat),
    show_default="by the name of --output, or table",
    help="Format of the changes.",
)  # fmt: skip
@click.option("--with-vectors", is_flag=True, help="Add the vectors and all other columns.")
@click.option(
    "--columns", metavar="NAMES",
    help="Write only these columns, in this order, separated by commas, such as id,change,vector.",
)  # fmt: skip
@click.option(
    "--output", "target", type=click.Path(path_type=Path), metavar="FILE",
    show_default="standard output", help="File to write, in place of an earlier one.",
)  # fmt: skip
def changes(
    output: str,
    since: str | None,
    kind: ChangeFormat | None,
    with_vectors: bool,
    columns: str | None,
    target: Path | None,
) -> None:
    """List the ids that changed since an earlier state of a dataset.

    The list is the net difference between that state and the last complete one. It has the part and
    the row of each new vector.
    """
    from bulkembed.pipeline.changes.change_formats import text_chunks, write_parquet
    from bulkembed.pipeline.changes.open_changes import open_changes

    set_log("warning")
    kind = kind or _kind_of(target)
    if kind is ChangeFormat.PARQUET and target is None and sys.stdout.isatty():
        raise ConfigError("--format parquet is not text. Add --output FILE.")
    if kind is ChangeFormat.TABLE and target is not None:
        raise ConfigError("--format table is for people. Use parquet, jsonl or csv with --output.")
    if kind is ChangeFormat.TABLE and columns is not None:
        raise ConfigError("--columns has no effect on --format table. Use parquet, jsonl or csv.")
    names = None if columns is None else split_names(columns)
    with open_changes(output, since, with_vectors=with_vectors, columns=names) as found:
        if kind is ChangeFormat.TABLE:
            with streams.showing():
                _show_changes(output, found)
        elif target is None and kind is not ChangeFormat.PARQUET:
            with streams.showing():
                for chunk in text_chunks(found.batches(), found.schema, kind):
                    click.echo(chunk, nl=False)
        else:
            with _binary(target) as stream:
                if kind is ChangeFormat.PARQUET:
                    write_parquet(found.batches(), found.schema, stream)
                else:
                    for chunk in text_chunks(found.batches(), found.schema, kind):
                        stream.write(chunk.encode())


def _kind_of(target: Path | None) -> ChangeFormat:
    if target is None:
        return ChangeFormat.TABLE
    suffix = target.suffix.removeprefix(".").lower()
    if suffix not in (ChangeFormat.PARQUET, ChangeFormat.JSONL, ChangeFormat.CSV):
        raise ConfigError(
            f"--output {target}: the name does not say the format. Add --format parquet, jsonl or "
            "csv."
        )
    return ChangeFormat(suffix)


def _binary(target: Path | None) -> AbstractContextManager[BinaryIO]:
    """Open standard output, or a file that gets its name when it is complete."""
    return _standard_output() if target is None else result_file(target)


@contextlib.contextmanager
def _standard_output() -> Iterator[BinaryIO]:
    with streams.showing():
        yield sys.stdout.buffer


def _show_changes(output: str, found: Changes) -> None:
    from bulkembed.pipeline.cli.show import show_lines

    show_lines(found.summary_lines(output), sys.stdout)
    columns = [name for name in found.schema.names[:2] if name != "change"]
    shown = 0
    for batch in found.batches():
        rows = batch.slice(0, SHOWN_ROWS - shown).to_pylist()
        for row in rows:
            what = row["change"] if row["vector_changed"] else f"{row['change']} (columns only)"
            ids = " ".join(str(row[name]) for name in columns if row[name] is not None)
            place = "" if row["part"] is None else f"  {row['part']} row {row['row']:,}"
            click.echo(printable(f"{what:<24}{ids}{place}"))
        shown += len(rows)
        if shown >= SHOWN_ROWS:
            break
    if found.counts.total > shown:
        click.echo(
            "More changes are not shown. Use --format jsonl, csv or parquet for all of them."
        )
