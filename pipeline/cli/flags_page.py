"""The page docs/flags.md, made from the commands by `make flags`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Sequence

import click

from bulkembed.pipeline.cli.main import COMMANDS, cli
from bulkembed.pipeline.cli.options import OPTIONS

HEAD = """# Commands and flags

This page is generated from the code by `make flags`. `bulkembed COMMAND --help` prints the same
text; `bulkembed --version` prints the version.
"""
RUN_NOTES = """
Flags override environment variables, and these override the file that `--config` names. The API
key is read from `--api-key-file` or `--api-key-secret`, then `GOOGLE_API_KEY`, then
`GEMINI_API_KEY`. No flag takes the key itself. The variable of a repeatable flag, such as
`BULKEMBED_RUN_INPUT`, holds one value per line. Beam's own flags follow a bare `--`. See
[exit codes](exit_codes.md).

A TIME is written `30s`, `10m`, `2h` or `1h30m`.
"""
EXAMPLES_NOTE = "<!-- parsed, not run: the files are only names -->"
"""The tests parse the examples below this comment."""
_CODE = re.compile(r"(?P<code>`[^`]*`)|(?<![\w-])(?:--[a-z][a-z-]*|\*\*|'\S*')(?!\w)")
"""Flags, patterns and templates, and code that is marked as such."""


def flags_page() -> str:
    """Return the page, in Markdown."""
    ctx = click.Context(cli, info_name="bulkembed")
    return HEAD + "".join(_command(ctx, name) for name in COMMANDS)


def _command(parent: click.Context, name: str) -> str:
    command = cli.get_command(parent, name)
    assert command is not None  # One of COMMANDS.
    ctx = click.Context(command, info_name=name, parent=parent)
    usage = " ".join(command.collect_usage_pieces(ctx))
    text = _as_code(inspect.cleandoc(command.help or ""))
    examples = "\n".join(getattr(command, "examples", ()))
    block = f"\n{EXAMPLES_NOTE}\n\n```sh\n{examples}\n```\n" if examples else ""
    notes = RUN_NOTES if name == "run" else ""
    head = f"\n## bulkembed {name}\n\n`bulkembed {name} {usage}`\n\n{text}\n"
    return head + block + notes + _flags(ctx)


def _flags(ctx: click.Context) -> str:
    """Return a table for each section of the help; the options of `run` are listed there only."""
    options = [one for one in ctx.command.params if isinstance(one, click.Option)]
    shared = [one for one in options if one in OPTIONS and ctx.info_name != "run"]
    tables: dict[str, list[click.Option]] = {}
    for option in options:
        if option not in shared:
            tables.setdefault(getattr(option, "section", ""), []).append(option)
    return "".join(_table(ctx, *table) for table in tables.items()) + _shared(shared)


def _shared(options: Sequence[click.Option]) -> str:
    """Return the sentence that names the sections of `run` whose options a command shares."""
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
    extra = option.get_help_extra(ctx)
    default = extra.get("default", extra.get("required", "")).removeprefix("(").removesuffix(")")
    cells = (f"`{names}`", default, _as_code(option.help or ""))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _as_code(text: str) -> str:
    return _CODE.sub(lambda found: found["code"] or f"`{found[0]}`", text)


if __name__ == "__main__":
    sys.stdout.write(flags_page())
