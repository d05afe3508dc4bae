"""`bulkembed run`, and the request that its options make."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import importlib.util
import inspect
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bulkembed.pipeline import streams
from bulkembed.pipeline.cli.commands import BEAM_ARGS, Command
from bulkembed.pipeline.cli.dated_paths import with_date
from bulkembed.pipeline.cli.options import OPTIONS
from bulkembed.pipeline.cli.other_output import naming_commands
from bulkembed.pipeline.logs import is_json, json_line, log, set_log
from bulkembed.pipeline.run.request import InputRequest, MissingFiles, RunRequest, parse_budget
from bulkembed.pipeline.run.row_amount import parse_amount
from bulkembed.pipeline.runners import signals
from bulkembed.schemas.batch import BatchConfig, enqueued_limit
from bulkembed.schemas.content_parts import ContentPart, check_switches, has_media, parse_part
from bulkembed.schemas.embedding import EmbeddingConfig, Service, ServiceConfig
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.fetch_settings import FetchSettings
from bulkembed.schemas.inputs import InputColumns
from bulkembed.schemas.job import CallSettings, OutputConfig
from bulkembed.schemas.media_settings import LongMedia, MediaSettings, for_service
from bulkembed.schemas.models import bare_name
from bulkembed.schemas.quota import Tier, parse_share
from bulkembed.schemas.secrets import masked
from bulkembed.schemas.stop import ExitCode, StopReason
from bulkembed.transforms.core.field_paths import split_names
from bulkembed.transforms.core.file_names import readable_name
from bulkembed.transforms.core.quota_limits import resolve_limits
from bulkembed.transforms.inputs.text_recipe import decode_template

if TYPE_CHECKING:
    from bulkembed.pipeline.run.summary import RunSummary, WrittenReport

_Made = TypeVar("_Made")
_OF_MEDIA = (
    "max_image_side", "piece_seconds", "piece_pages", "document_ocr", "audio_track", "media_by_uri",
    "media_root",
    "allow_private_addresses",
)  # fmt: skip
"""Options that do nothing without media in `--content`."""

EXAMPLES = (
    "bulkembed run --input 'docs/*.parquet' --output out/docs",
    "bulkembed run --input s3://bucket/in --output s3://bucket/out --dim 768 --tier 2",
    "bulkembed run --config job.yaml --max-runtime 8h --max-cost-usd 50",
    "bulkembed run --input docs.jsonl --output out/trial --emulator --limit-rows 1000",
)
EPILOG = (
    "The API key is read from --api-key-file or --api-key-secret, then GOOGLE_API_KEY, then "
    "GEMINI_API_KEY. Each option is also a key of the --config file and an environment variable: "
    "--unit-rows is BULKEMBED_RUN_UNIT_ROWS. Separate several values of a variable with line "
    "breaks. Beam's own options follow a bare --, e.g. -- --runner=FlinkRunner. Exit codes: 0 "
    "complete; 1 failed; 2 wrong usage, or other settings than the dataset's; 3 too many dead "
    "letters or deletes; 4 --max-cost-usd reached; 5 another run is writing the dataset; 75 "
    "incomplete: rerun the same command to resume."
)


@click.command(
    "run",
    cls=Command,
    params=list(OPTIONS),
    examples=EXAMPLES,
    takes_beam_options=True,
    epilog=EPILOG,
)
@click.pass_context
def run(ctx: click.Context, /, **options: Any) -> None:
    """Embed the input and write ids and vectors to Parquet.

    Rerun the same command to resume. At most the requests in flight when a run was killed are
    billed twice.
    """
    try:
        with signals.raise_interrupts(), naming_commands(ctx):
            code = _run(options, ctx.meta.get(BEAM_ARGS, ()))
    except KeyboardInterrupt:
        log.error("Interrupted. Rerun the same command to resume.")
        code = ExitCode.INCOMPLETE
    ctx.exit(int(code))


def _run(options: dict[str, Any], beam_args: tuple[str, ...]) -> ExitCode:
    from bulkembed.pipeline.run.run import run as run_job
    from bulkembed.pipeline.run.summary import empty_result_warning

    set_log(options["log_level"], as_json=options["log_json"])
    summary = run_job(request_from(options, beam_args))
    watched = sys.stdout.isatty() and not is_json()
    asked, texts = options["report"], options["report_texts"]
    write_report = functools.partial(
        _report,
        asked=bool(asked),
        texts=watched if texts is None else texts,
    )
    wanted = watched if asked is None else asked
    if wanted and is_json():  # All in one object.
        summary = dataclasses.replace(summary, report=write_report(summary))
    _show(summary)
    warning = empty_result_warning(summary)
    if warning is not None:
        log.warning("%s", warning)
    if summary.stop is not None:
        log.error("%s", summary.stop.message)
    if wanted and not is_json():
        report = write_report(summary)
        if report is not None:
            with streams.showing(keep_code=True):
                click.echo(f"report    {report.line()}")
    return summary.exit_code


def _show(summary: RunSummary) -> None:
    """Print the summary in the form of the log, for people or for machines."""
    from bulkembed.pipeline.cli.show import show_lines
    from bulkembed.pipeline.run.summary import rows_line, summary_lines

    with streams.showing(keep_code=True):
        if is_json():
            facts, line = summary.to_json(), rows_line(summary.run)
            click.echo(masked(json_line(time.time(), "info", "summary", line, summary=facts)))
        else:
            show_lines(summary_lines(summary), sys.stdout)


def _report(summary: RunSummary, *, asked: bool, texts: bool) -> WrittenReport | None:
    """Write the report page of a run that processed rows; an error is only a warning.

    No page is written after a signal or at the end of --max-runtime, when the process has to end
    within seconds, or after the loss of a worker, when memory may be short.
    """
    hurry = (StopReason.SIGNAL, StopReason.DEADLINE, StopReason.ENGINE)
    if not summary.run.rows_in or (summary.stop is not None and summary.stop.reason in hurry):
        return None
    if importlib.util.find_spec("altair") is None and not asked:
        return None  # The extra `report` is not installed.
    try:
        from bulkembed.pipeline.report.page import write_report

        return write_report(summary.output, texts=texts)
    except ModuleNotFoundError as error:
        log.warning(
            "the report was not written: it needs the package %s. Install it with: "
            "pip install 'bulkembed[report]'",
            error.name,
        )
    except Exception as error:
        log.warning("the report was not written: %s", error)
    except KeyboardInterrupt:
        log.warning("the report was not written: interrupted")
    return None


def request_from(options: dict[str, Any], beam_args: tuple[str, ...] = ()) -> RunRequest:
    """Return the request that the options make.

    An option reaches the field or argument that has its name; only options that need more than
    that are named here.

    Raises:
        ConfigError: options that do not go together.
    """
    from bulkembed.transforms.clients.transport import service_from

    options = _with_texts(with_date(options, dt.datetime.now(dt.UTC).date()))
    columns = _columns(options)
    service = _made(service_from, options)
    limits = _made(
        resolve_limits, options,
        service=service.kind,
        model=bare_name(options["model"]),
        share=parse_share(options["quota_share"]),
    )  # fmt: skip
    return _made(
        RunRequest, options,
        input=_made(InputRequest, options, columns=columns, fetch=_fetch(options)),
        embedding=_made(
            EmbeddingConfig, options,
            service=service.identity,
            has_titles=options["title_column"] is not None,
            media=_media(options, columns, vertexai=service.vertexai),
        ),
        service=service,
        calls=_made(CallSettings, options, limits=limits),
        output=_made(OutputConfig, options, uri=options["output"]),
        batch=_batch(options, service),
        dead_letters=parse_budget(options["max_dead_letters"]),
        max_delete=parse_amount("--max-delete", options["max_delete"], "5%"),
        missing_files=MissingFiles(options["missing_files"]),
        beam_args=beam_args,
        settings={name: _plain(value) for name, value in options.items() if value is not None},
    )  # fmt: skip


def _made(make: Callable[..., _Made], options: dict[str, Any], **given: Any) -> _Made:
    """Call `make` with the given arguments, and with the options that it has parameters for."""
    names = inspect.signature(make).parameters
    return make(**{name: options[name] for name in names if name in options} | given)


def _batch(options: dict[str, Any], service: ServiceConfig) -> BatchConfig:
    tier = options["tier"]
    if tier is None and service.kind is Service.DEVELOPER:
        tier = Tier.ONE
    tokens = options["enqueued_tokens"]
    if service.vertexai:
        tier = None  # Vertex AI has no quota of enqueued tokens.
    return _made(
        BatchConfig, options,
        enqueued_tokens=enqueued_limit(tier, tokens, options["enqueued_headroom"]),
        is_offered=tier is not Tier.FREE or tokens is not None,
    )  # fmt: skip


def _with_texts(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with `--text-column` or `--text-template` for a `--content` of one text.

    Raises:
        ConfigError: an option of texts is given as well, or several texts without media.
    """
    typed = options["content"]
    if not typed:
        return options
    for name in ("text_column", "text_template"):
        if options[name] is not None:
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(f"use either {flag} or --content, not both")
    parts = [parse_part(one) for one in typed]
    if has_media(parts):
        return options
    if len(parts) > 1:
        raise ConfigError(
            f"--content names {len(parts)} texts and no media. Write one text, as in "
            "--content '{title}\\n\\n{body}'."
        )
    if parts[0].source == typed[0]:
        return {**options, "content": (), "text_template": typed[0]}
    (column,) = parts[0].fields
    return {**options, "content": (), "text_column": column}


def _columns(options: dict[str, Any]) -> InputColumns:
    typed = options["text_template"]
    template = decode_template(typed) if typed is not None else None
    content = tuple(map(_part, options["content"]))
    column = options["text_column"] or None
    if column is None and template is None and not content:
        column = "text"
    return _made(
        InputColumns, options,
        id_column=None if options["generate_ids"] else options["id_column"],
        text_column=column,
        text_template=template,
        content=content,
        keep_columns=tuple(split_names(options["keep_columns"])),
    )  # fmt: skip


def _part(typed: str) -> ContentPart:
    part = parse_part(typed)
    if part.source != typed:
        return part  # The name of a column.
    return dataclasses.replace(part, source=decode_template(typed, "--content"))


def _media(
    options: dict[str, Any], columns: InputColumns, *, vertexai: bool
) -> MediaSettings | None:
    """Return how media is prepared; None without media.

    Raises:
        ConfigError: an option has no effect.
    """
    given = [name for name in _OF_MEDIA if options[name] not in (None, False)]
    if given and not columns.content:
        flag = f"--{given[0].replace('_', '-')}"
        raise ConfigError(f"{flag} needs media in --content, such as image:COLUMN. Remove {flag}.")
    if not columns.content:
        return None
    cut = [name for name in ("piece_seconds", "piece_pages") if options[name] is not None]
    if cut and options["long_media"] is LongMedia.DEAD_LETTER:
        flag = f"--{cut[0].replace('_', '-')}"
        raise ConfigError(f"{flag} needs --long-media head or pieces. Add it, or remove {flag}.")
    repeated = [name for name in ("piece_overlap_seconds", "piece_overlap_pages") if options[name]]
    if repeated and options["long_media"] is not LongMedia.PIECES:
        flag = f"--{repeated[0].replace('_', '-')}"
        raise ConfigError(f"{flag} needs --long-media pieces. Add it, or remove {flag}.")
    settings = _made(
        MediaSettings, options,
        check=options["check_media"],
        max_pixels=options["max_image_pixels"],
        max_bytes=options["max_media_bytes"],
        by_uri=options["media_by_uri"],
    )  # fmt: skip
    check_switches(columns.content, settings)
    return for_service(settings, vertexai=vertexai)


def _fetch(options: dict[str, Any]) -> FetchSettings:
    return FetchSettings(
        concurrency=options["fetch_concurrency"],
        per_host=options["fetch_per_host"],
        timeout_s=options["fetch_timeout"],
        max_bytes=options["max_source_bytes"],
        allow_private_addresses=options["allow_private_addresses"],
    )


def _plain(value: object) -> object:
    """Return an option as `run.json` has it, with input paths in readable form."""
    if isinstance(value, tuple):
        return [readable_name(one) for one in value]
    if isinstance(value, Path):
        return readable_name(str(value))
    return str(value) if isinstance(value, StrEnum) else value
