"""A click command whose help lists its options under headings, and whose Beam flags follow `--`."""

from __future__ import annotations

from typing import Any

import click

BEAM_ARGS = "beam_args"
"""Where `ctx.meta` holds the flags behind a bare `--`."""


class SectionOption(click.Option):
    """An option that knows the heading it is listed under."""

    def __init__(self, *args: Any, section: str = "Other options", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section

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
