"""The `bulkembed` command: its subcommands, loaded when they are called."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import click
from click.shell_completion import get_completion_class

from bulkembed.pipeline import streams
from bulkembed.pipeline.logs import log, set_log
from bulkembed.pipeline.runners import signals
from bulkembed.schemas.errors import BulkEmbedError, ConfigError, OutputLocked
from bulkembed.schemas.stop import ExitCode

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_BULKEMBED_COMPLETE"
"""By which the shell's script asks for words; the name is click's."""


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script for SHELL that completes commands, flags and their values.

    In bash: eval "$(bulkembed completion bash)", best in ~/.bashrc; in zsh the same with zsh, in
    ~/.zshrc; in fish: bulkembed completion fish | source.
    """
    kind = get_completion_class(shell)
    assert kind is not None  # One of click's own.
    root = ctx.find_root()
    click.echo(kind(root.command, {}, "bulkembed", VARIABLE).source())


if Path(sys.argv[0]).name == "bulkembed":
    signals.end_at_once()  # The imports below take a while.


COMMANDS = {
    "run": ("bulkembed.pipeline.cli.run_command", "run"),
    "estimate": ("bulkembed.pipeline.cli.estimate_command", "estimate"),
    "status": ("bulkembed.pipeline.cli.status_command", "status"),
    "verify": ("bulkembed.pipeline.cli.verify_command", "verify"),
    "search": ("bulkembed.pipeline.cli.search_command", "search"),
    "report": ("bulkembed.pipeline.cli.report_command", "report"),
    "models": ("bulkembed.pipeline.cli.models_command", "models"),
    "emulator": ("bulkembed.emulator.command", "emulator"),
    "completion": ("bulkembed.pipeline.cli.main", "completion"),
}


class LazyGroup(click.Group):
    """A group that imports a subcommand only when it is called, or listed by --help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "BULKEMBED"},
)
@click.version_option(package_name="bulkembed", prog_name="bulkembed")
def cli() -> None:
    """Bulk text embedding with Gemini: Parquet and JSONL shards in, vectors out."""


def main(args: list[str] | None = None) -> Any:
    """Run the command line; errors of ours become one line on standard error and an exit code."""
    streams.open_all()
    set_log()
    try:
        return cli.main(args, prog_name="bulkembed")
    except BulkEmbedError as error:
        log.error("%s", error.message)
        sys.exit(int(_exit_code(error)))
    except Exception:
        log.exception("please report this")
        sys.exit(int(ExitCode.FAILED))
    finally:
        streams.settle()


def _exit_code(error: BulkEmbedError) -> ExitCode:
    if isinstance(error, OutputLocked):
        return ExitCode.LOCKED
    return ExitCode.USAGE if isinstance(error, ConfigError) else ExitCode.FAILED
