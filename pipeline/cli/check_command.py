"""`bulkembed check`: what bulkembed assumes of the service, and what it finds."""

from __future__ import annotations

import contextlib
import inspect
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bulkembed.pipeline import streams
from bulkembed.pipeline.cli.commands import Command
from bulkembed.pipeline.cli.options import SERVICE_OPTIONS
from bulkembed.pipeline.cli.result_files import result_file
from bulkembed.pipeline.logs import log, printable, set_log
from bulkembed.schemas.errors import OutputError, QuotaExceeded, Unavailable
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.secrets import masked
from bulkembed.schemas.service_check import Verdict
from bulkembed.schemas.stop import ExitCode

if TYPE_CHECKING:
    from bulkembed.schemas.service_check import CheckReport, NamedLimit

_STDOUT = "-"


@click.command(
    cls=Command,
    params=list(SERVICE_OPTIONS),
    examples=(
        "bulkembed check",
        "bulkembed check --json found.json",
        "bulkembed check --emulator",
    ),
)
@click.option(
    "--model", "models", multiple=True, metavar="NAME",
    show_default="gemini-embedding-001 and gemini-embedding-2",
    help="Model to check. Repeatable.",
)  # fmt: skip
@click.option(
    "--json", "target", metavar="FILE",
    help="Also write what was found to a file, for `bulkembed emulator --as`. With - print JSON "
    "instead of the table.",
)  # fmt: skip
@click.pass_context
def check(
    ctx: click.Context, /, models: tuple[str, ...], target: str | None, **options: Any
) -> None:
    """Compare the service with what bulkembed assumes of it.

    Sends some twenty small requests, which cost less than a cent; the price is logged first. Prints
    a line for each assumption. Exit codes: 0 all is as assumed; 1 something differs; 75 something
    could not be checked: rerun the command later.
    """
    from bulkembed.pipeline.check.check import DEFAULT_MODELS, check_service
    from bulkembed.transforms.clients.transport import service_from

    set_log("info")
    known = inspect.signature(service_from).parameters
    service = service_from(**{name: options[name] for name in options if name in known})
    report, code = None, ExitCode.COMPLETE
    to_file = target not in (None, _STDOUT)
    try:
        with result_file(Path(str(target))) if to_file else contextlib.nullcontext() as file:
            report = check_service(service, models or DEFAULT_MODELS)
            code = _exit_code(report)
            if file is not None:
                file.write(f"{_as_json(report)}\n".encode())
    except (Unavailable, QuotaExceeded) as error:
        log.error("%s", error.message)
        ctx.exit(int(ExitCode.INCOMPLETE))
    except OutputError as error:
        if report is None:
            raise
        log.error("--json %s", error.message)
        code = ExitCode.FAILED
    with streams.showing(keep_code=True):
        if target == _STDOUT:
            click.echo(_as_json(report))
        else:
            _show(report)
    ctx.exit(int(code))


def _exit_code(report: CheckReport) -> ExitCode:
    if report.count(Verdict.DIFFERS):
        return ExitCode.FAILED
    return ExitCode.INCOMPLETE if report.count(Verdict.NOT_CHECKED) else ExitCode.COMPLETE


def _as_json(report: CheckReport) -> str:
    from bulkembed.schemas.serialization import to_plain

    return masked(json.dumps(to_plain(report), indent=2, ensure_ascii=False))


def _show(report: CheckReport) -> None:
    from bulkembed.pipeline.cli.show import show_table

    show_table(
        ("model", "what", "verdict", "assumed", "found"),
        (
            (one.model, one.name, one.verdict, one.assumed, " ".join(masked(one.found).split()))
            for one in report.assumptions
        ),
        sys.stdout,
    )
    for limit in dict.fromkeys(map(_shown_limit, report.limits)):
        click.echo(printable(f"the quota was exceeded: {limit}"))
    counts = {verdict: report.count(verdict) for verdict in Verdict}
    listed = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    click.echo(f"\n{number_of(len(report.assumptions), 'assumption')}: {listed}")
    if report.count(Verdict.DIFFERS):
        click.echo(
            "Open an issue with the file of --json, so that bulkembed can follow the service."
        )


def _shown_limit(limit: NamedLimit) -> str:
    value = "" if limit.value is None else f" of {limit.value:,}"
    return f"{masked(limit.quota_id or limit.message)}{value}"
