"""`bulkembed run`: its options, and the request that they make."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bulkembed.pipeline import streams
from bulkembed.pipeline.cli.options import BEAM_ARGS, OPTIONS, SectionCommand
from bulkembed.pipeline.logs import is_json, json_line, log, set_log
from bulkembed.pipeline.run.request import InputRequest, ModelRequest, RunRequest, parse_budget
from bulkembed.pipeline.runners import signals
from bulkembed.schemas.embedding import BlankText, LongText
from bulkembed.schemas.inputs import FileFormat, IdType, InputColumns
from bulkembed.schemas.job import CallSettings, Dedupe, OutputConfig, VectorEncoding, VectorType
from bulkembed.schemas.models import TaskType, bare_name
from bulkembed.schemas.quota import Pace, RpmCounts, Tier, parse_share
from bulkembed.schemas.secrets import masked
from bulkembed.schemas.stop import ExitCode, StopReason
from bulkembed.transforms.clients.transport import service_from
from bulkembed.transforms.core.file_names import readable_name
from bulkembed.transforms.core.quota_limits import resolve_limits
from bulkembed.transforms.inputs.text_recipe import decode_template

if TYPE_CHECKING:
    from bulkembed.pipeline.run.summary import RunSummary

EPILOG = (
    "Beam's own flags come after a bare --, as in: bulkembed run ... -- --runner=FlinkRunner. The"
    " API key comes from GOOGLE_API_KEY, GEMINI_API_KEY, --api-key-file or --api-key-secret, "
    "never from a flag. Each flag is also a key of the --config file and, in capitals behind "
    "BULKEMBED_RUN_, an environment variable, with one value a line where it can be repeated. "
    "Exit codes: 0 complete, 1 failed, 2 wrong usage or other settings than the output's, 3 too "
    "many dead letters, 4 --max-cost-usd is reached, 5 another run is at work on the output, 75 "
    "incomplete: run the same command again."
)


@click.command(
    "run",
    cls=SectionCommand,
    params=list(OPTIONS),
    context_settings={"max_content_width": 100},
    epilog=EPILOG,
)
@click.pass_context
def run(ctx: click.Context, /, **options: Any) -> None:
    """Embed every row of the input, and write ids and vectors to Parquet.

    The same command again goes on where the last one stopped; paid again are at most the calls
    that were in the air when it was killed.
    """
    try:
        with signals.as_interrupts():
            code = _run(options, ctx.meta.get(BEAM_ARGS, ()))
    except KeyboardInterrupt:
        log.error("interrupted; run the same command again to go on")
        code = ExitCode.INCOMPLETE
    ctx.exit(int(code))


def _run(options: dict[str, Any], beam_args: tuple[str, ...]) -> ExitCode:
    from bulkembed.pipeline.run.run import run as run_job
    from bulkembed.pipeline.run.summary import nothing_embedded

    set_log(options["log_level"], as_json=options["log_json"])
    summary = run_job(request_from(options, beam_args))
    _show(summary)
    warning = nothing_embedded(summary)
    if warning is not None:
        log.warning("%s", warning)
    if summary.stop is not None:
        log.error("%s", summary.stop.message)
    if options["report"]:
        _report(summary)
    return summary.exit_code


def _show(summary: RunSummary) -> None:
    """The summary on standard output, as the log is: for people or for machines."""
    from bulkembed.pipeline.cli.show import show_lines
    from bulkembed.pipeline.run.summary import rows_line, summary_lines

    with streams.showing(keep_code=True):
        if is_json():
            facts, line = summary.to_json(), rows_line(summary.run)
            click.echo(masked(json_line(time.time(), "info", "summary", line, summary=facts)))
        else:
            show_lines(summary_lines(summary), sys.stdout)


def _report(summary: RunSummary) -> None:
    """Writes the page of a run that did something; nothing that goes wrong with it fails the run.

    Not after a signal or at a deadline, when the process has to end within seconds, and not after
    the loss of a worker, when memory may be short.
    """
    hurry = (StopReason.SIGNAL, StopReason.DEADLINE, StopReason.ENGINE)
    if not summary.run.rows_in or (summary.stop is not None and summary.stop.reason in hurry):
        return
    if importlib.util.find_spec("altair") is None:
        return  # The extra is not installed.
    try:
        from bulkembed.pipeline.report.page import write_report

        place = write_report(summary.output)
        if is_json():
            log.info("report %s", place)
        else:
            with streams.showing(keep_code=True):
                click.echo(f"report  {place}")
    except Exception as error:
        log.warning("the report is not written: %s", error)
    except KeyboardInterrupt:
        log.warning("the report is not written: interrupted")


def request_from(options: dict[str, Any], beam_args: tuple[str, ...] = ()) -> RunRequest:
    """The request that the options make.

    Raises:
        ConfigError: options that do not go together.
    """
    service = service_from(
        emulator=options["emulator"],
        vertexai=options["vertexai"],
        base_url=options["base_url"],
        api_version=options["api_version"],
        timeout_s=options["timeout_s"],
        vertex_project=options["vertex_project"],
        vertex_location=options["vertex_location"],
        api_key_file=options["api_key_file"],
        api_key_secret=options["api_key_secret"],
    )
    return RunRequest(
        input=_input_from(options),
        model=ModelRequest(
            model=options["model"],
            task_type=TaskType(options["task_type"]),
            dim=options["dim"],
            normalize=options["normalize"],
            long_text=LongText(options["long_text"]),
            passage_tokens=options["passage_tokens"],
            passage_overlap=options["passage_overlap"],
        ),
        service=service,
        calls=CallSettings(
            limits=resolve_limits(
                service.kind,
                bare_name(options["model"]),
                tier=Tier(options["tier"]) if options["tier"] else None,
                rpm=options["rpm"],
                tpm=options["tpm"],
                rpd=options["rpd"],
                rpm_counts=RpmCounts(options["rpm_counts"]),
                pace=Pace(options["pace"]),
                share=parse_share(options["quota_share"]),
            ),
            concurrency=options["concurrency"],
            retry_timeout_s=options["retry_timeout_s"],
            shutdown_timeout_s=options["shutdown_timeout_s"],
            quota_name=options["quota_name"],
            rate_service=options["rate_limit_service"],
        ),
        output=OutputConfig(
            uri=options["output"],
            vector_type=VectorType(options["vector_type"]),
            vector_encoding=VectorEncoding(options["vector_encoding"]),
        ),
        unit_rows=options["unit_rows"],
        dedupe=Dedupe(options["dedupe"]),
        max_runtime_s=options["max_runtime_s"],
        dead_letters=parse_budget(options["max_dead_letters"]),
        max_cost_usd=options["max_cost_usd"],
        usd_per_mtok=options["usd_per_mtok"],
        overwrite=options["overwrite"],
        prune=options["prune"],
        retry_failed=options["retry_failed"],
        workers=options["workers"],
        runner=options["runner"],
        beam_args=beam_args,
        settings={name: _plain(value) for name, value in options.items() if value is not None},
    )


def _input_from(options: dict[str, Any]) -> InputRequest:
    typed = options["text_template"]
    template = decode_template(typed) if typed is not None else None
    text_column = options["text_column"] or (None if template is not None else "text")
    keep = [name.strip() for name in options["keep_columns"].split(",")]
    return InputRequest(
        patterns=tuple(options["patterns"]),
        columns=InputColumns(
            id_column=None if options["generate_ids"] else options["id_column"],
            text_column=text_column,
            text_template=template,
            title_column=options["title_column"],
            keep_columns=tuple(name for name in keep if name),
            id_type=IdType(options["id_type"]),
        ),
        format=FileFormat(options["format"]) if options["format"] else None,
        skip_bad_files=options["skip_bad_files"],
        rescan=options["rescan"],
        tables_as_files=options["table_files_as_they_are"],
        limit_rows=options["limit_rows"],
        blank_text=BlankText(options["blank_text"]),
    )


def _plain(value: object) -> object:
    """An option as `run.json` has it; paths of input in the readable form, see `file_names`."""
    if isinstance(value, tuple):
        return [readable_name(one) for one in value]
    return readable_name(str(value)) if isinstance(value, Path) else value
