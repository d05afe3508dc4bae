"""The options of `bulkembed run`, a line or two each, under the headings of its help."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from bulkembed.schemas.embedding import BlankText, LongText
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.inputs import FileFormat, IdType
from bulkembed.schemas.job import Dedupe, VectorEncoding, VectorType
from bulkembed.schemas.models import DEFAULT_MODEL, TaskType
from bulkembed.schemas.quota import Pace, RpmCounts, Tier

_PATTERN = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")


class Duration(click.ParamType[float]):
    """Seconds, written with units or without."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The seconds that the text stands for."""
        if isinstance(value, int | float):
            return float(value)
        found = _PATTERN.fullmatch(str(value).strip().lower())
        if not found or not any(found.groups()):
            self.fail(f"{value!r} is no time; write 30s, 10m, 2h or 1h30m", param, ctx)
        hours, minutes, seconds = (float(group or 0) for group in found.groups())
        return hours * 3600 + minutes * 60 + seconds


def read_config(ctx: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
    """A click callback: makes the file's values the defaults of the command's options.

    Raises:
        ConfigError: the file is not there, is no YAML mapping, or has a key that is no flag.
    """
    if path is None:
        return None
    known = {
        flag.removeprefix("--"): parameter
        for parameter in ctx.command.params
        for flag in (*parameter.opts, *parameter.secondary_opts)
        if flag.startswith("--")
    }
    former = {
        alias.removeprefix("--"): parameter
        for parameter in ctx.command.params
        for alias in getattr(parameter, "aliases", ())
    }
    defaults: dict[str, Any] = {}
    for key, value in _load(path).items():
        name = str(key).replace("_", "-")
        parameter = known.get(name) or former.get(name)
        if parameter is None or parameter.name in ("config", "help"):
            raise ConfigError(f"--config {path}: {key!r} is no flag{_nearest(name, list(known))}")
        if f"--{name}" in parameter.secondary_opts and isinstance(value, bool):
            value = not value
        defaults[str(parameter.name)] = _as_typed(parameter, value)
    ctx.default_map = {**(ctx.default_map or {}), **defaults}
    return path


def _as_typed(parameter: click.Parameter, value: Any) -> Any:
    """A YAML value as it would be typed behind the flag, for click to read and to check."""
    if value is None or isinstance(value, bool):
        return value
    if getattr(parameter, "multiple", False):
        return list(map(str, value if isinstance(value, list) else [value]))
    if isinstance(value, list) and parameter.type is click.STRING:
        return ",".join(map(str, value))
    return str(value)


def _load(path: Path) -> dict[Any, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: no YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"--config {path}: the file must hold `flag: value` lines")
    return content


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; allowed are {', '.join(sorted(known))}"


BEAM_ARGS = "beam_args"
"""Where `ctx.meta` holds the flags behind a bare `--`."""


class SectionOption(click.Option):
    """An option that knows its heading in the help, and its former names.

    The former names work everywhere, but no help or completion shows them.
    """

    def __init__(
        self, *args: Any, section: str = "Other options", aliases: Sequence[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.section = section
        self.aliases = tuple(aliases)

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Add the flag with all of its names."""
        shown = self.opts
        self.opts = [*shown, *self.aliases]
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.opts = shown

    def value_from_envvar(self, ctx: click.Context) -> Any:
        """Take one value a line for a flag that can be repeated: paths may have blanks."""
        if not self.multiple:
            return super().value_from_envvar(ctx)
        value = self.resolve_envvar_value(ctx)
        return None if value is None else tuple(filter(None, map(str.strip, value.splitlines())))


class SectionCommand(click.Command):
    """Lists options by section; hands on what stands behind a bare `--` without reading it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keeps Beam's flags aside, so that a stray word before them is still an error."""
        if "--" in args:
            at = args.index("--")
            args, rest = args[:at], args[at + 1 :]
            ctx.meta[BEAM_ARGS] = tuple(rest)
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if "unexpected extra argument" not in error.message:
                raise
            if not any(arg.split("=")[0] == "--input" for arg in given):
                raise
            quoted = "Did the shell expand a pattern? Put it in quotes, as in --input 'in/*.jsonl'."
            raise click.UsageError(f"{error.message}. {quoted}", ctx) from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the options, a heading for each section, in the order of first use."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                section = getattr(parameter, "section", "Other options")
                sections.setdefault(section, []).append(record)
        for name, records in sections.items():
            with formatter.section(name):
                formatter.write_dl(records)


def _option(section: str, *names: str, **settings: Any) -> SectionOption:
    settings.setdefault("show_default", settings.get("default") not in (None, ""))
    flags = (names[0].split("/")[0], *settings.get("aliases", ()))
    settings.setdefault("envvar", [_variable(flag) for flag in flags])
    return SectionOption(list(names), section=section, **settings)


def _variable(flag: str) -> str:
    return f"BULKEMBED_RUN_{flag.removeprefix('--').replace('-', '_').upper()}"


def _choice(values: Iterable[str]) -> click.Choice[str]:
    return click.Choice([str(value) for value in values], case_sensitive=False)


_INPUT, _MODEL, _OUTPUT = "Input", "Model", "Output"
SERVICE, _PACE, _RUN = "Service", "Calls and quota", "Run"
OF_DATASETS = (_INPUT, _MODEL, _OUTPUT, _PACE)
"""The headings of what a dataset is believed about the run that made it."""


# fmt: off
OPTIONS: tuple[SectionOption, ...] = (
    _option(_INPUT, "--input", "patterns", multiple=True, required=True, metavar="PATTERN",
            help="File, folder or glob (** too), local, file://, s3://, gs://, az:// or abfs://; "
            "repeatable."),
    _option(_INPUT, "--format", type=_choice(FileFormat),
            help="Take files of any name. Most of them should have this format, but the content of "
            "each file decides.  [default: by name and content]"),
    _option(_INPUT, "--id-column", default="id", metavar="NAME",
            help="Column of the ids: integers or strings."),
    _option(_INPUT, "--id-type", type=_choice(IdType), default="auto",
            help="string: make all ids strings."),
    _option(_INPUT, "--generate-ids", is_flag=True,
            help="Make path#row ids; there is no id column."),
    _option(_INPUT, "--text-column", metavar="NAME", help="Column of the text.  [default: text]"),
    _option(_INPUT, "--text-template", metavar="TEMPLATE",
            help="Text made of several columns, as in '{title}\\n\\n{body}'. \\n is a line break, "
            "\\t a tab, \\r a carriage return, and \\\\ a backslash."),
    _option(_INPUT, "--title-column", metavar="NAME",
            help="Column of the documents' titles, sent beside the text; RETRIEVAL_DOCUMENT only."),
    _option(_INPUT, "--keep-columns", metavar="A,B", default="",
            help="Columns to carry over, types kept; '*' for all."),
    _option(_INPUT, "--blank-text", type=_choice(BlankText), default="skip",
            help="What becomes of rows without text."),
    _option(_INPUT, "--skip-bad-files", is_flag=True,
            help="Pass over files that cannot be read, and list them."),
    _option(_INPUT, "--table-files-as-they-are", is_flag=True,
            help="Read all Parquet files of a Delta, Hudi or Iceberg table, also those that its "
            "log has replaced or removed."),
    _option(_INPUT, "--rescan", is_flag=True,
            help="Read every input file again, even if its size and modification time are those "
            "of the last run."),
    _option(_INPUT, "--limit-rows", type=int, metavar="N", help="Only so many rows, for a trial."),
    _option(_OUTPUT, "--output", required=True, metavar="DIR", help="Folder of the dataset."),
    _option(_OUTPUT, "--vector-type", type=_choice(VectorType), default="float32",
            help="The numbers of a vector."),
    _option(_OUTPUT, "--vector-encoding", type=_choice(VectorEncoding), default="plain",
            help="byte_stream_split saves 15 %, but not every reader takes it, such as Spark 4.1."),
    _option(_MODEL, "--model", default=DEFAULT_MODEL, metavar="NAME",
            help="See `bulkembed models`."),
    _option(_MODEL, "--task-type", type=_choice(TaskType), default="RETRIEVAL_DOCUMENT",
            metavar="TYPE", help=f"What the vectors are for: {', '.join(TaskType)}."),
    _option(_MODEL, "--dim", type=int, metavar="N",
            help="Numbers of a vector; without it the model's own."),
    _option(_MODEL, "--normalize/--no-normalize", default=True,
            help="Bring vectors to unit length."),
    _option(_MODEL, "--long-text", type=_choice(LongText), default="truncate",
            help="What becomes of texts with more tokens than the model takes, or than a passage."),
    _option(_MODEL, "--passage-tokens", type=int, metavar="N",
            help="Most tokens of a passage, four UTF-8 bytes each.  [default: 512; for mean a "
            "quarter of what the model takes]"),
    _option(_MODEL, "--passage-overlap", type=int, metavar="N",
            help="Most tokens of the passage before that one repeats.  [default: 64; for mean 0]"),
    _option(SERVICE, "--emulator", is_flag=True,
            help="Start a local server and use it: no key, but not Gemini's vectors."),
    _option(SERVICE, "--base-url", metavar="URL",
            help="Where the API is, if not at Google; else GOOGLE_GEMINI_BASE_URL or "
            "GOOGLE_VERTEX_BASE_URL."),
    _option(SERVICE, "--api-version", metavar="V",
            help="Version of the API.  [default: v1beta; Vertex: v1beta1]"),
    _option(SERVICE, "--api-key-file", metavar="FILE",
            help="File that holds the key and nothing else."),
    _option(SERVICE, "--api-key-secret", metavar="NAME",
            help="Secret of Google Secret Manager, projects/PROJECT/secrets/NAME, that each worker "
            "reads."),
    _option(SERVICE, "--vertexai", is_flag=True,
            help="Vertex AI; with a key alone: express mode."),
    _option(SERVICE, "--vertex-project", metavar="ID",
            help="With application-default credentials."),
    _option(SERVICE, "--vertex-location", metavar="REGION", help="Goes with --vertex-project."),
    _option(SERVICE, "--timeout", "timeout_s", type=float, default=60.0, metavar="S",
            help="Seconds that a call may take."),
    _option(_PACE, "--tier", type=_choice(Tier), help="Google's usage tier, which sets --rpm, "
            "--tpm and --rpd.  [default: 1 on the Developer API]"),
    _option(_PACE, "--rpm", type=click.IntRange(min=0), metavar="N",
            help="Maximum texts per minute: the service counts each text as one request. 0 means "
            "no limit.  [default: by tier]"),
    _option(_PACE, "--tpm", type=click.IntRange(min=0), metavar="N",
            help="Maximum tokens per minute. 0 means no limit.  [default: by tier]"),
    _option(_PACE, "--rpd", type=click.IntRange(min=0), metavar="N",
            help="Maximum texts per day. 0 means no limit.  [default: by tier]"),
    _option(_PACE, "--retry-timeout", "retry_timeout_s", aliases=["--call-deadline"],
            type=Duration(), default="10m", metavar="TIME",
            help="How long to retry a failing request. If no request succeeds for this long, the "
            "run ends with code 75."),
    _option(_PACE, "--rpm-counts", type=_choice(RpmCounts), default="texts",
            help="What --rpm and --rpd count."),
    _option(_PACE, "--pace", type=_choice(Pace), default="window",
            help="window: as soon as the last 60 s allow it; smooth: evenly."),
    _option(_PACE, "--quota-share", metavar="1/N", default="1",
            help="This host's part of the limits, where several hosts share them."),
    _option(_PACE, "--quota-name", metavar="NAME",
            help="Runs of one name share one quota: for several keys of one project."),
    _option(_PACE, "--rate-limit-service", metavar="HOST:PORT",
            help="An Envoy rate limit service, asked on top of the limits."),
    _option(_PACE, "--concurrency", aliases=["--max-in-flight"], type=int, default=16,
            metavar="N", help="Maximum requests in flight."),
    _option(_RUN, "--unit-rows", type=int, default=2500, metavar="N",
            help="Rows that are committed together."),
    _option(_RUN, "--dedupe", type=_choice(Dedupe), default="run",
            help="Among which rows a text is sent once: all, those of a unit, or none."),
    _option(_RUN, "--max-dead-letters", metavar="N|P%",
            help="Rows that may be given up on, blank ones not counted; beyond it the run ends "
            "with code 3.  [default: 1% of the planned rows, at least 10]"),
    _option(_RUN, "--max-cost-usd", type=click.FloatRange(min=0, min_open=True), metavar="USD",
            help="What the dataset may cost, all of its runs together; before the run would go "
            "beyond it, it ends with code 4."),
    _option(_RUN, "--price-usd-per-mtok", "usd_per_mtok", metavar="USD",
            type=click.FloatRange(min=0, min_open=True),
            help="Price of a million tokens, for another service or model.  [default: Google's "
            "list price]"),
    _option(_RUN, "--retry-failed", aliases=["--retry-dead-letters"], is_flag=True,
            help="Retry dead-lettered rows only."),
    _option(_RUN, "--prune", is_flag=True, help="Remove the rows of input files that are gone."),
    _option(_RUN, "--overwrite", aliases=["--fresh"], is_flag=True,
            help="Delete the existing dataset at --output and start over. The same command resumes "
            "the new dataset until it is complete, and then deletes it again."),
    _option(_RUN, "--max-runtime", "max_runtime_s", aliases=["--deadline"], type=Duration(),
            metavar="TIME", help="Stop cleanly after this much time, e.g. 2h."),
    _option(_RUN, "--shutdown-timeout", "shutdown_timeout_s", aliases=["--grace"],
            type=Duration(), default="20s", metavar="TIME",
            help="How long to wait for requests in flight when stopping."),
    _option(_RUN, "--workers", type=int, default=1, metavar="N",
            help="Processes of this machine, at most as many as cores, that share work, quota and "
            "--concurrency."),
    _option(_RUN, "--runner", metavar="NAME",
            help="Beam's runner; its own flags follow a bare --.  [default: in this process]"),
    _option(_RUN, "--report/--no-report", default=True,
            help="Write OUT/_run/report.html at the end, if bulkembed[report] is installed."),
    _option(_RUN, "--config", type=click.Path(path_type=Path), is_eager=True,
            callback=read_config, metavar="FILE", help="YAML file with flags as keys; flags win."),
    _option(_RUN, "--log-level", default="info", help="How much is logged.",
            type=_choice(("debug", "info", "warning", "error"))),
    _option(_RUN, "--log-json", is_flag=True,
            help="Write log, progress and summary as JSON, an object a line."),
)
# fmt: on
