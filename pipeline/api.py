"""The commands as functions, for Airflow and notebooks: `bulkembed.run(...)`, and so on."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from bulkembed.pipeline.cli.commands import usage_sentence
from bulkembed.pipeline.logs import log, mask_records
from bulkembed.schemas.errors import ConfigError, RunStopped
from bulkembed.schemas.messages import did_you_mean
from bulkembed.schemas.stop import RERUN

if TYPE_CHECKING:
    from bulkembed.pipeline.changes.open_changes import Changes
    from bulkembed.pipeline.run.request import RunRequest
    from bulkembed.pipeline.run.status import Status
    from bulkembed.pipeline.run.summary import RunSummary, WrittenReport

_OF_THE_COMMAND = ("log_level", "log_json")
"""Options of the command line that have no meaning here."""


def run(**options: Any) -> RunSummary:
    """Embed the input and write ids and vectors to Parquet, as `bulkembed run` does.

    The arguments are the options of the command, with `_` for `-`: `id_column="sku"`. A flag is
    True or False, and an option that can be repeated takes a list. `beam_args` is a list of Beam's
    own options. Environment variables and `config` count as for the command.

        summary = bulkembed.run(input="docs/*.parquet", output="out/docs", dim=768)

    Only one run at a time can be active in a process. In the main thread, SIGINT, SIGTERM and
    SIGHUP stop a run cleanly. The log goes to the logger `bulkembed`.

    Returns:
        The summary of a run that is complete.

    Raises:
        BulkEmbedError: as `exit_code` says. `RunStopped` has the summary of a run that ended
            early; `ConfigError` means wrong options.
    """
    from bulkembed.pipeline.cli.options import OPTIONS
    from bulkembed.pipeline.run.run import run as run_job
    from bulkembed.pipeline.run.summary import empty_result_warning

    mask_records()
    request, report, texts = _request(OPTIONS, options)
    summary = run_job(request)
    if report:
        summary = dataclasses.replace(summary, report=_report_of(summary.output, texts=texts))
    if summary.exit_code:
        message = f"the run is incomplete. {RERUN}"
        message = summary.stop.message if summary.stop is not None else message
        raise RunStopped(message, exit_code=summary.exit_code, summary=summary)
    warning = empty_result_warning(summary)
    if warning is not None:
        log.warning("%s", warning)
    return summary


def status(output: str | os.PathLike[str]) -> Status:
    """Return the progress, dead letters and spend of a dataset, as `bulkembed status` shows them.

    Args:
        output: the folder of the dataset: a path or a URI.

    Raises:
        BulkEmbedError: there is no dataset, or it cannot be read.
    """
    from bulkembed.pipeline.run.status import read_status

    mask_records()
    return read_status(os.fspath(output))


def changes(
    output: str | os.PathLike[str],
    since: str | dt.datetime | None = None,
    *,
    with_vectors: bool = False,
    columns: Sequence[str] | None = None,
) -> contextlib.AbstractContextManager[Changes]:
    """Open the changes of a dataset since an earlier state, as `bulkembed changes` lists them.

        with bulkembed.changes("out/docs", since=run_id, with_vectors=True) as found:
            for batch in found.batches():
                load(batch)
        run_id = found.run_id

    Args:
        output: the folder of the dataset: a path or a URI.
        since: the id of a run or a time, in UTC if it has no zone; None for the state before the
            last run that changed rows.
        with_vectors: whether to add the vectors and all other columns.
        columns: only these, in this order, also those that only `with_vectors` adds.

    Raises:
        BulkEmbedError: there is no dataset or complete state, or the changes are not known.
    """
    from bulkembed.pipeline.changes.open_changes import open_changes

    mask_records()
    begin = since.isoformat() if isinstance(since, dt.datetime) else since
    return open_changes(os.fspath(output), begin, with_vectors=with_vectors, columns=columns)


def _request(
    known: Sequence[click.Option], options: Mapping[str, Any]
) -> tuple[RunRequest, bool, bool]:
    """Return the request of a run, and whether to write the report, and with texts."""
    from bulkembed.pipeline.cli.run_command import request_from
    from bulkembed.pipeline.cli.run_command import run as command

    given = {name: value for name, value in options.items() if value is not None}
    beam_args = tuple(map(str, given.pop("beam_args", ())))
    args, off = _as_typed(known, given)
    try:
        ctx = command.make_context("run", args)
    except click.UsageError as error:
        raise ConfigError(usage_sentence(error)) from error
    report, texts = (bool(given.get(name, False)) for name in ("report", "report_texts"))
    return request_from({**ctx.params, **off}, beam_args), report, texts


def _as_typed(
    known: Sequence[click.Option], given: Mapping[str, Any]
) -> tuple[list[str], dict[str, Any]]:
    """Return options as the command line has them, and flags that are off.

    Raises:
        ConfigError: an option is not known, or has a value of the wrong type.
    """
    by_name = {_name(flag): one for one in known for flag in _flags(one)}
    args: list[str] = []
    off: dict[str, Any] = {}
    for name, value in given.items():
        option = by_name.get(name)
        if name in _OF_THE_COMMAND:
            raise ConfigError(f"{name} is not an argument. Configure the logger 'bulkembed'.")
        if option is None:
            near = did_you_mean(name, by_name)
            raise ConfigError(f"unknown argument {name!r}. {near or 'See docs/flags.md.'}")
        if option.is_flag:
            if not isinstance(value, bool):
                raise ConfigError(f"{name} must be True or False, not {value!r}.")
            flags = option.opts if value else option.secondary_opts
            args += flags[:1]
            off |= {} if flags else {str(option.name): False}
        else:
            values = _values(value) if option.multiple else [_word(value)]
            args += [f"{option.opts[0]}={one}" for one in values]
    return args, off


def _flags(option: click.Option) -> Iterable[str]:
    return (*option.opts, *getattr(option, "aliases", ()))


def _name(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def _values(value: Any) -> list[str]:
    single = isinstance(value, str | os.PathLike)
    return [_word(one) for one in ([value] if single else value)]


def _word(value: Any) -> str:
    """Return a value as it is typed after its flag."""
    if isinstance(value, dt.timedelta):
        return f"{value.total_seconds()}s"
    if isinstance(value, dt.datetime):
        return str(value.date())
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def _report_of(output: str, *, texts: bool) -> WrittenReport | None:
    try:
        from bulkembed.pipeline.report.page import write_report

        return write_report(output, texts=texts)
    except Exception as error:
        log.warning("the report was not written: %s", error)
    return None
