"""How commands read their options, print their help and word their errors."""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from bulkembed.pipeline.logs import log
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.messages import did_you_mean

HELP_WIDTH = 100
BEAM_ARGS = "beam_args"
"""The key in `ctx.meta` of the options after a bare `--`, which are Beam's."""
TYPED = "typed"
"""The key in `ctx.meta` of the words of a command, without Beam's."""

_Word = TypeVar("_Word", bound=str)
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")
_BYTES_OF = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_SIZE = re.compile(rf"(\d+(?:\.\d+)?) ?({'|'.join(_BYTES_OF)})")
_BARE_NUMBER = re.compile(r"\d+(?:\.\d+)?")


class Duration(click.ParamType[float]):
    """A time such as `1h30m`, in seconds. A bare number means seconds and logs a warning."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds."""
        if isinstance(value, int | float):
            return float(value)
        text = str(value).strip().lower()
        found = _DURATION.fullmatch(text)
        if not found or not any(found.groups()):
            self.fail(f"invalid duration {value!r}. Write 30s, 10m, 2h or 1h30m", param, ctx)
        if _BARE_NUMBER.fullmatch(text) and param is not None:
            log.warning(
                "%s %s has no unit and is read as seconds. Write %ss.",
                _where_given(param, ctx),
                text,
                text,
            )
        hours, minutes, seconds = (float(group or 0) for group in found.groups())
        return hours * 3600 + minutes * 60 + seconds


class ByteSize(click.ParamType[int]):
    """A size such as `256MB`, in bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes."""
        if isinstance(value, int):
            return value
        found = _SIZE.fullmatch(str(value).strip().upper())
        size = float(found[1]) * _BYTES_OF[found[2]] if found else 0
        if size < 1:
            self.fail(f"invalid size {str(value)!r}. Write 64MB, 256MB or 1GB", param, ctx)
        return int(size)


class IsoDate(click.ParamType[str]):
    """A day such as `2024-01-31`."""

    name = "date"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return the form as help shows it."""
        return "YYYY-MM-DD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the day as it was written."""
        text = str(value).strip()
        try:
            if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
                return dt.date.fromisoformat(text).isoformat()
        except ValueError:
            pass
        return self.fail(f"{text!r} is not a date. Write YYYY-MM-DD, as in 2024-01-31", param, ctx)


class Number(click.ParamType[float]):
    """A number within limits.

    Args:
        kind: int for whole numbers, else float.
        minimum: the least number that is allowed.
        maximum: the greatest number that is allowed.
        above: a number that must be exceeded.
    """

    name = "number"

    def __init__(
        self,
        kind: type[int] | type[float] = int,
        *,
        minimum: int | None = None,
        maximum: int | None = None,
        above: int | None = None,
    ) -> None:
        self.kind = kind
        self.minimum = minimum
        self.maximum = maximum
        self.above = above

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        try:
            number = self.kind(value)
        except (ValueError, OverflowError):
            whole = "whole number" if self.kind is int else "number"
            return self.fail(f"{str(value)!r} is not a {whole}", param, ctx)
        is_allowed = (
            math.isfinite(number)
            and (self.minimum is None or number >= self.minimum)
            and (self.maximum is None or number <= self.maximum)
            and (self.above is None or number > self.above)
        )
        return (
            number
            if is_allowed
            else self.fail(f"{value} is out of range. {self._range()}", param, ctx)
        )

    def _range(self) -> str:
        if self.above is not None:
            return f"Give a number above {self.above:,}"
        if self.maximum is not None:
            return f"Give a number from {self.minimum:,} to {self.maximum:,}"
        return "Give a number" if self.minimum is None else f"Give a number from {self.minimum:,}"


class WordChoice(click.ParamType[_Word], Generic[_Word]):
    """One of several words, in either case.

    Args:
        words: the words, such as an enumeration.
        advice: a sentence for the error if a word is not one of them.
    """

    name = "word"

    def __init__(self, words: Iterable[_Word], advice: str = "") -> None:
        self.words = words
        self.advice = advice

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return the words as help shows them."""
        return f"[{'|'.join(self.words)}]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> _Word:
        """Return the matching word."""
        text = str(value).strip().lower()
        for word in self.words:
            if word.lower() == text:
                return word
        near = did_you_mean(str(value), list(self.words))
        allowed = f"Allowed are {', '.join(self.words)}."
        sentences = [f"unknown value {str(value)!r}.", near, allowed, self.advice]
        return self.fail(" ".join(filter(None, sentences)), param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the words that begin as typed."""
        start = incomplete.lower()
        return [CompletionItem(word) for word in self.words if word.lower().startswith(start)]


class Option(click.Option):
    """An option that knows its section of the help, and its former names.

    The former names work as flags, as keys of the config file and as environment variables, but no
    help or completion shows them.
    """

    def __init__(
        self, *args: Any, section: str = "", aliases: Sequence[str] = (), **kwargs: Any
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

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Return the default and `required`; the help text says the range in words."""
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra

    def value_from_envvar(self, ctx: click.Context) -> Any:
        """Split the variable of an option that can be repeated at line ends: paths hold spaces."""
        if not self.multiple:
            return super().value_from_envvar(ctx)
        value = self.resolve_envvar_value(ctx)
        return None if value is None else tuple(filter(None, map(str.strip, value.splitlines())))


class Command(click.Command):
    """A command with examples in its help, sections of options, and Beam's options after `--`.

    Args:
        examples: command lines for the help, as they are typed.
        takes_beam_options: whether options may follow a bare `--`.
    """

    def __init__(
        self,
        *args: Any,
        examples: Sequence[str] = (),
        takes_beam_options: bool = False,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("context_settings", {"max_content_width": HELP_WIDTH})
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.takes_beam_options = takes_beam_options
        self.allow_extra_args = True  # They are rejected below, with the likely cause.

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put Beam's options aside and read the rest.

        Raises:
            click.UsageError: a word is neither an option nor a value of one.
        """
        if self.takes_beam_options and "--" in args:
            at = args.index("--")
            args, beam_args = args[:at], args[at + 1 :]
            ctx.meta[BEAM_ARGS] = tuple(beam_args)
        ctx.meta[TYPED] = tuple(args)
        try:
            extra = super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise
        if extra and not ctx.resilient_parsing:
            raise click.UsageError(self._extra_words(ctx, extra), ctx)
        return extra

    def _extra_words(self, ctx: click.Context, words: Sequence[str]) -> str:
        more = f" and {len(words) - 1} more" if len(words) > 1 else ""
        sentence = f"unexpected argument{'s' if more else ''} {words[0]!r}{more}."
        repeatable = [
            one.opts[0] for one in self.get_params(ctx)
            if isinstance(one, click.Option) and one.multiple
        ]  # fmt: skip
        if repeatable and all(Path(word).exists() for word in words):
            quoted = f"{repeatable[0]} 'in/*.jsonl'"
            return f"{sentence} The shell expanded a pattern. Put it in quotes, as in {quoted}"
        near = did_you_mean(f"--{words[0]}", _flags(self, ctx))
        if not near and any(isinstance(one, click.Argument) for one in self.params):
            near = "Put a value of several words in quotes"
        return f"{sentence} {near}".strip()

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the description, and the examples below it."""
        super().format_help_text(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write("".join(f"  {line}\n" for line in example.splitlines()))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings; the command's own come first."""
        for heading, options in self.sections(ctx).items():
            records = [one.get_help_record(ctx) for one in options]
            with formatter.section(heading):
                formatter.write_dl([record for record in records if record is not None])

    def sections(self, ctx: click.Context) -> dict[str, list[click.Option]]:
        """Return the options by heading; `Options` has those without a section of their own."""
        found: dict[str, list[click.Option]] = {"Options": []}
        for one in self.get_params(ctx):
            if isinstance(one, click.Option):
                found.setdefault(getattr(one, "section", "") or "Options", []).append(one)
        if len(found["Options"]) == 1:  # --help alone goes last.
            found["Options"] = found.pop("Options")
        return found


class UsageFailure(click.ClickException):
    """Wrong usage: one line in the form of all errors, and where to find the help."""

    exit_code = click.UsageError.exit_code

    def __init__(self, error: click.UsageError) -> None:
        super().__init__(usage_sentence(error))
        self._command_path = error.ctx.command_path if error.ctx is not None else "bulkembed"

    def show(self, file: Any = None) -> None:
        """Write both lines to the log's stream."""
        log.error("%s", self.message)
        click.echo(f"Try '{self._command_path} --help'.", file=file, err=file is None)


@contextlib.contextmanager
def plain_usage_errors() -> Iterator[None]:
    """Turn click's usage errors into `UsageFailure`.

    Raises:
        UsageFailure: the command line is wrong.
    """
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        raise UsageFailure(error) from error


def usage_sentence(error: click.UsageError) -> str:
    """Return what is wrong with a command line, and the cure."""
    text = _usage_problem(error).strip().rstrip(".")
    has_sentences = ". " in text and not text.endswith("?")
    return f"{text}." if has_sentences else text


def _usage_problem(error: click.UsageError) -> str:
    ctx = error.ctx
    if isinstance(error, click.NoSuchOption) and ctx is not None:
        near = did_you_mean(error.option_name, _flags(ctx.command, ctx))
        if not near and getattr(ctx.command, "takes_beam_options", False):
            near = "Beam's own options come after a bare --"
        return f"unknown option {error.option_name}. {near}"
    if isinstance(error, click.MissingParameter) and error.param is not None and ctx is not None:
        sentence = f"{_shown_name(error.param)} is missing"
        if isinstance(error.param, click.Option):
            sentence += f". Add {error.param.opts[0]} {error.param.make_metavar(ctx)}"
        return sentence
    if isinstance(error, click.BadParameter) and error.param is not None:
        value, found, _ = error.message.partition(" is not a valid boolean")
        problem = f"{value} is neither true nor false" if found else error.message
        return f"{_where_given(error.param, ctx)}: {problem}"
    if isinstance(error, click.BadOptionUsage) and ctx is not None:
        for one in ctx.command.get_params(ctx):
            if isinstance(one, click.Option) and error.option_name in one.opts and not one.is_flag:
                return f"{error.option_name} needs a value. Write {one.opts[0]} " + (
                    one.make_metavar(ctx)
                )
    message = error.format_message()
    return f"{message[:1].lower()}{message[1:]}"


def _shown_name(parameter: click.Parameter) -> str:
    """Return the name that a parameter has in messages."""
    if isinstance(parameter, click.Option):
        return parameter.opts[0]
    return parameter.human_readable_name.upper()


def _where_given(parameter: click.Parameter, ctx: click.Context | None) -> str:
    """Return the name of a parameter, with the variable or the config file that has its value."""
    name = _shown_name(parameter)
    source = None if ctx is None else ctx.get_parameter_source(str(parameter.name))
    if ctx is None or source in (None, ParameterSource.COMMANDLINE):
        return name
    if source is ParameterSource.ENVIRONMENT:
        given = parameter.envvar or ()
        variables = (given,) if isinstance(given, str) else given
        return next((one for one in variables if os.environ.get(one)), name)
    config = ctx.params.get("config")
    is_in_file = source is ParameterSource.DEFAULT_MAP and config is not None
    return f"--config {config}: {name.removeprefix('--')}" if is_in_file else name


def _flags(command: click.Command, ctx: click.Context) -> list[str]:
    """Return the flags of a command, without former names."""
    return [
        flag
        for parameter in command.get_params(ctx)
        for flag in (*parameter.opts, *parameter.secondary_opts)
        if flag.startswith("--")
    ]


def read_config(ctx: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
    """Make the values of a config file the defaults of the command's options (a click callback).

    Raises:
        ConfigError: the file is missing, is not a YAML mapping, or has an unknown key.
    """
    if path is None:
        return None
    known = {
        flag.removeprefix("--"): one
        for one in ctx.command.params
        for flag in (*one.opts, *one.secondary_opts)
        if flag.startswith("--") and one.name != "config"
    }
    former = {
        alias.removeprefix("--"): one
        for one in ctx.command.params
        for alias in getattr(one, "aliases", ())
    }
    defaults: dict[str, Any] = {}
    for key, value in _load(path).items():
        name = str(key).replace("_", "-")
        parameter = known.get(name) or former.get(name)
        if parameter is None:
            allowed = did_you_mean(name, known) or f"Allowed are {', '.join(sorted(known))}."
            raise ConfigError(f"--config {path}: unknown key {str(key)!r}. {allowed}")
        if f"--{name}" in parameter.secondary_opts and isinstance(value, bool):
            value = not value
        defaults[str(parameter.name)] = _as_typed(parameter, value)
    ctx.default_map = {**(ctx.default_map or {}), **defaults}
    return path


def _as_typed(parameter: click.Parameter, value: Any) -> Any:
    """Return a YAML value as it would be typed after the flag."""
    if value is None or isinstance(value, bool):
        return value
    if getattr(parameter, "multiple", False):
        return list(map(str, value if isinstance(value, list) else [value]))
    if isinstance(value, list) and parameter.type is click.STRING:
        return ",".join(map(str, value))
    return str(value)


def _load(path: Path) -> Mapping[Any, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f" in line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"--config {path}: invalid YAML{line}: {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--config {path}: invalid YAML: {' '.join(str(error).split())}"
        ) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"--config {path}: invalid content. Write `option: value` lines.")
    return content
