"""The commands that read a dataset: `status`, `verify`, `search` and `report`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from bulkembed.pipeline import streams
from bulkembed.pipeline.cli.commands import Command, Number, WordChoice
from bulkembed.pipeline.cli.options import MEDIA_PLACES, SERVICE_OPTIONS
from bulkembed.pipeline.logs import set_log
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.inputs import MEDIA_COLUMN
from bulkembed.schemas.media import media_line
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.models import TaskType

if TYPE_CHECKING:
    from bulkembed.pipeline.search.search import SearchResult
    from bulkembed.pipeline.verify.verify import VerifyReport

MAX_SAMPLE_ROWS = 10_000
"""Sampled texts and vectors are in memory."""
SHOWN_CHARS = 80
"""Characters of a kept column in the table of `search`."""
HIDDEN = ("text_hash", "source_hash", "truncated", "source_file", "source_row")
"""Columns that `search` shows with --json only."""

_output = click.argument("output", metavar="OUT")
_json_flag = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command(cls=Command, examples=("bulkembed status out/docs",))
@_output
@_json_flag
def status(output: str, as_json: bool) -> None:
    """Show the progress, dead letters and cost of a dataset.

    OUT is the folder of the dataset. Reads its commit records only, also while a run is writing it.
    """
    from bulkembed.pipeline.cli.show import show_lines
    from bulkembed.pipeline.run.status import read_status, status_lines

    found = read_status(output)
    with streams.showing():
        if as_json:
            click.echo(json.dumps(found.to_json(), indent=2))
        else:
            show_lines(status_lines(found), sys.stdout)


@click.command(cls=Command, examples=("bulkembed report out/docs",))
@_output
@click.option(
    "--report-texts/--no-report-texts", default=True, show_default=True,
    help="Show excerpts of texts in the report.",
)  # fmt: skip
def report(output: str, report_texts: bool) -> None:
    """Write a web page about a dataset, with a map of its texts.

    The page is OUT/_run/report.html, a single file that needs no network. It shows rows, pace, cost
    and dead letters, and it contains ids and texts of the dataset. The command prints its path.
    """
    set_log("warning")
    try:
        from bulkembed.pipeline.report.page import write_report

        written = write_report(output, texts=report_texts)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the report needs the package {error.name}. Install it with: "
            "pip install 'bulkembed[report]'"
        ) from None
    with streams.showing(keep_code=True):
        click.echo(written.path)


@click.command(
    cls=Command,
    params=[*MEDIA_PLACES, *SERVICE_OPTIONS],
    examples=(
        "bulkembed verify out/docs",
        "bulkembed verify out/docs --against 'docs/*.parquet' --sample 100",
        "bulkembed verify out/docs --repair",
    ),
)
@_output
@click.option(
    "--against", multiple=True, metavar="PATTERN",
    help="Input of OUT, written as for --input: check that each of its rows is in OUT, with its id "
    "and its text. Repeatable.",
)  # fmt: skip
@click.option(
    "--sample", type=Number(minimum=0, maximum=MAX_SAMPLE_ROWS), default=0, metavar="NUMBER",
    help="Embed this many rows again and compare the vectors. Their texts are read from --against, "
    f"else from the input of OUT's last run. Maximum: {MAX_SAMPLE_ROWS:,}.",
)  # fmt: skip
@click.option(
    "--repeated-ids", is_flag=True, help="Allow several rows with one id: do not compare ids."
)
@click.option(
    "--repair", "repairs", is_flag=True,
    help="Move damaged files to OUT/_run/aside/, and rebuild the commit records of intact parts. "
    "The next run embeds the other rows again.",
)  # fmt: skip
@_json_flag
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
    """Check every file of a dataset, and repair it with --repair.

    Reads every file in OUT and checks it against its commit records, settings and (with --against)
    input. Calls the service for --sample only. Exit codes: 0 no problem; 1 problems, which the
    table lists; 2 no such dataset or input; 5 a run is using the dataset.
    """
    from bulkembed.pipeline.cli.pinned_run import given_places, given_service, request_of
    from bulkembed.pipeline.verify.verify import VerifyRequest
    from bulkembed.pipeline.verify.verify import verify as verify_dataset
    from bulkembed.transforms.dataset import run_file
    from bulkembed.transforms.dataset.dataset import Dataset

    set_log("warning")
    if repairs:
        if against or sample:
            raise ConfigError(
                "--repair cannot be combined with --against or --sample. Repair the dataset first, "
                "then verify it."
            )
        _repair(output, as_json=as_json)
        return
    made_by = None
    if against or sample:
        pinned = run_file.read(Dataset.open(output))
        patterns = {"patterns": against} if against else {}
        given = {**given_service(ctx), **given_places(ctx), **patterns}
        made_by = request_of(pinned, given, calls=sample > 0)
    found = verify_dataset(VerifyRequest(output, made_by, bool(against), sample, not repeated_ids))
    with streams.showing(keep_code=True):
        if as_json:
            click.echo(json.dumps(found.to_json(), indent=2))
        else:
            _show_findings(found)
    ctx.exit(int(found.exit_code))


def _repair(output: str, *, as_json: bool) -> None:
    from bulkembed.pipeline.cli.show import show_lines
    from bulkembed.pipeline.verify.repair import repair

    done = repair(output)
    if as_json:
        click.echo(json.dumps({"output": output, "repaired": done}, indent=2))
        return
    lines = [("repaired", line) for line in done] or [("repaired", "nothing: no damage was found")]
    if done:
        lines.append(("next", "Rerun the command that made the dataset. It embeds missing rows."))
    show_lines(lines, sys.stdout)


def _show_findings(found: VerifyReport) -> None:
    from bulkembed.pipeline.cli.show import show_lines, show_table
    from bulkembed.pipeline.verify.verify import report_lines

    shown = found.shown()
    if shown:
        rows = ((one.check, one.where, one.message) for one in shown)
        show_table(("check", "where", "problem"), rows, sys.stdout)
        hidden = len(found.findings) - len(shown)
        click.echo(f"and {hidden:,} more. Use --json to print all.\n" if hidden else "")
    show_lines(report_lines(found), sys.stdout)


@click.command(
    cls=Command,
    params=list(SERVICE_OPTIONS),
    examples=(
        "bulkembed search out/docs 'how to resume a run'",
        "bulkembed search out/docs 'refund policy' -k 3 --json",
        "bulkembed search out/shop --image boot.jpg",
    ),
)
@_output
@click.argument("query", required=False)
@click.option(
    "--image", metavar="FILE",
    help="Search for an image instead of a text: a path, or the URI of a file in a store. For "
    "datasets with media.",
)  # fmt: skip
@click.option(
    "-k", "k", type=Number(minimum=1), default=10, show_default=True,
    metavar="NUMBER", help="Rows to show.",
)  # fmt: skip
@click.option(
    "--task-type", type=WordChoice(TaskType), metavar="TYPE",
    show_default="RETRIEVAL_QUERY for documents, else the dataset's",
    help="Task type of the text.",
)  # fmt: skip
@_json_flag
@click.pass_context
def search(
    ctx: click.Context,
    /,
    output: str,
    query: str | None,
    image: str | None,
    k: int,
    task_type: TaskType | None,
    as_json: bool,
    **_: Any,
) -> None:
    """List the rows of a dataset that are nearest to a query.

    Embeds QUERY, or the image of --image, with the model, dimensions and service of the dataset
    OUT, which sends one request, and compares it with every vector by cosine.
    """
    from bulkembed.pipeline.cli.pinned_run import given_service, request_of
    from bulkembed.pipeline.search.query_image import read_query_image
    from bulkembed.pipeline.search.search import search as search_dataset
    from bulkembed.transforms.dataset import run_file
    from bulkembed.transforms.dataset.dataset import Dataset

    set_log("warning")
    if (query is None) == (image is None):
        raise ConfigError("give either a text to search for or --image FILE, and not both.")
    if image is not None and task_type is not None:
        raise ConfigError("--task-type has no effect on --image. Remove it.")
    dataset = Dataset.open(output)
    pinned = run_file.read(dataset)
    request = request_of(pinned, given_service(ctx), reads=False)
    wanted = query if image is None else read_query_image(pinned, output, image)
    assert wanted is not None
    found = search_dataset(pinned, dataset, request, wanted, k, task_type)
    with streams.showing():
        if as_json:
            click.echo(json.dumps(found.to_json(), indent=2, ensure_ascii=False, default=_plain))
        else:
            _show_rows(found)


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _show_rows(found: SearchResult) -> None:
    from bulkembed.pipeline.cli.show import show_table

    if found.rows:
        names = [name for name in found.rows[0] if name not in HIDDEN]
        show_table(names, (_cells(row, names) for row in found.rows), sys.stdout)
    else:
        click.echo("no row has a vector yet")
    if found.image is not None:
        usd = "" if found.usd is None else f", {found.usd:.6f} USD"
        click.echo(f"\nthe image: {number_of(found.tokens, 'token')}{usd}")


def _cells(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Return the score of a row and its other values, shortened."""
    import textwrap

    cells = (" ".join(_cell(name, row[name]).split()) for name in names[1:])
    short = (textwrap.shorten(cell, SHOWN_CHARS, placeholder="...") for cell in cells)
    return [f"{row['score']:.4f}", *short]


def _cell(name: str, value: Any) -> str:
    if name == MEDIA_COLUMN and isinstance(value, list):
        return media_line(value)
    return "" if value is None else str(value)
