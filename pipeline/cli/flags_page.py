"""The page of commands and flags, docs/flags.md, made of the commands themselves: `make flags`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Sequence

import click

from bulkembed.pipeline.cli.main import COMMANDS, cli
from bulkembed.pipeline.cli.options import OPTIONS

HEAD = """# Commands and flags

This page is made from the code by `make flags`. `bulkembed COMMAND --help` says the same;
`bulkembed --version` names the version.
"""
RUN_NOTES = """
Flags go before environment variables, and these before the file that `--config` names. The key
comes from `GOOGLE_API_KEY`, else `GEMINI_API_KEY`, or from `--api-key-file` or `--api-key-secret`,
which go first; no flag takes it. The variable of a flag that can be repeated, such as
`BULKEMBED_RUN_INPUT`, has one value a line. Beam's own flags follow a bare `--`. See
[exit codes](exit_codes.md) for what a run ends with.
"""
_CODE = re.compile(r"(?<![`\w-])(?:--[a-z][a-z-]*|\*\*|'\S*')(?![`\w])")
"""What is typed as it stands: flags, patterns, templates."""
_DEFAULT = re.compile(r"\s*\[default: (.*)\]$")


def flags_page() -> str:
    """The page, in Markdown."""
    ctx = click.Context(cli, info_name="bulkembed")
    return HEAD + "".join(_command(ctx, name) for name in COMMANDS)


def _command(parent: click.Context, name: str) -> str:
    command = cli.get_command(parent, name)
    assert command is not None  # One of COMMANDS.
    ctx = click.Context(command, info_name=name, parent=parent)
    usage = " ".join(command.collect_usage_pieces(ctx))
    said = _as_code(inspect.cleandoc(command.help or ""))
    notes = RUN_NOTES if name == "run" else ""
    return f"\n## bulkembed {name}\n\n`bulkembed {name} {usage}`\n\n{said}\n{notes}{_flags(ctx)}"


def _flags(ctx: click.Context) -> str:
    """A table for each heading of the command's help; flags of `run` stand with `run` only."""
    options = [one for one in ctx.command.params if isinstance(one, click.Option)]
    shared = [one for one in options if one in OPTIONS and ctx.info_name != "run"]
    tables: dict[str, list[click.Option]] = {}
    for option in options:
        if option not in shared:
            tables.setdefault(getattr(option, "section", ""), []).append(option)
    return _shared(shared) + "".join(_table(ctx, *table) for table in tables.items())


def _shared(options: Sequence[click.Option]) -> str:
    """The headings of `run` under which a command's other flags are listed."""
    if not options:
        return ""
    sections = ", ".join(dict.fromkeys(getattr(option, "section", "") for option in options))
    return f"\nIt also takes these flags of [`bulkembed run`](#bulkembed-run): {sections}.\n"


def _table(ctx: click.Context, heading: str, options: list[click.Option]) -> str:
    rows = "".join(_row(ctx, option) for option in options)
    title = f"\n### {heading}\n" if heading else ""
    return f"{title}\n| flag | default | what it does |\n|---|---|---|\n{rows}"


def _row(ctx: click.Context, option: click.Option) -> str:
    names, _ = option.get_help_record(ctx) or ("", "")
    text = option.help or ""
    said, extra = _DEFAULT.search(text), option.get_help_extra(ctx)
    default = said[1] if said else extra.get("default") or extra.get("required") or ""
    cells = (f"`{names}`", default, _as_code(_DEFAULT.sub("", text)))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _as_code(text: str) -> str:
    return _CODE.sub(r"`\g<0>`", text.replace(".  ", ". "))


if __name__ == "__main__":
    sys.stdout.write(flags_page())
