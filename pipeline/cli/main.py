"""The `bulkembed` command: its subcommands, and how errors are shown."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import click
from click.shell_completion import get_completion_class

from bulkembed.pipeline import streams
from bulkembed.pipeline.cli.commands import HELP_WIDTH, Command, WordChoice, plain_usage_errors
from bulkembed.pipeline.logs import log, set_log
from bulkembed.pipeline.runners import signals
from bulkembed.schemas.errors import BulkEmbedError
from bulkembed.schemas.messages import did_you_mean
from bulkembed.schemas.stop import ExitCode

SHELLS = ("bash", "zsh", "fish")
COMPLETE_VARIABLE = "_BULKEMBED_COMPLETE"
"""Set by the shell's completion script; click defines the name."""
COMMANDS = {
    "run": ("bulkembed.pipeline.cli.run_command", "run"),
    "estimate": ("bulkembed.pipeline.cli.estimate_command", "estimate"),
    "status": ("bulkembed.pipeline.cli.dataset_commands", "status"),
    "changes": ("bulkembed.pipeline.cli.reader_commands", "changes"),
    "parts": ("bulkembed.pipeline.cli.reader_commands", "parts"),
    "verify": ("bulkembed.pipeline.cli.dataset_commands", "verify"),
    "search": ("bulkembed.pipeline.cli.dataset_commands", "search"),
    "report": ("bulkembed.pipeline.cli.dataset_commands", "report"),
    "batches": ("bulkembed.pipeline.cli.batches_command", "batches"),
    "compact": ("bulkembed.pipeline.cli.compact_command", "compact"),
    "models": ("bulkembed.pipeline.cli.models_command", "models"),
    "check": ("bulkembed.pipeline.cli.check_command", "check"),
    "emulator": ("bulkembed.emulator.command", "emulator"),
    "completion": ("bulkembed.pipeline.cli.main", "completion"),
}

if Path(sys.argv[0]).name == "bulkembed":
    signals.exit_on_interrupt()  # Importing a command takes a while.


class LazyGroup(click.Group):
    """A group that imports a subcommand when it is called, or listed by --help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the first word names, and the words after it.

        Raises:
            click.UsageError: there is no such command.
        """
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            advice = did_you_mean(name, COMMANDS) or f"Commands: {', '.join(COMMANDS)}"
            raise click.UsageError(f"unknown command {name!r}. {advice}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each command with the whole first line of its help."""
        rows = []
        for name in COMMANDS:
            command = self.get_command(ctx, name)
            assert command is not None  # One of COMMANDS.
            rows.append((name, (command.help or "").strip().split("\n", 1)[0]))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the group's own options."""
        with plain_usage_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand."""
        with plain_usage_errors():
            return super().invoke(ctx)


@click.group(
    cls=LazyGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "BULKEMBED",
        "max_content_width": HELP_WIDTH,
    },
    epilog="Run 'bulkembed COMMAND --help' for the options and examples of a command.",
)
@click.version_option(package_name="bulkembed", prog_name="bulkembed")
def cli() -> None:
    """Embed texts in bulk with Gemini: Parquet and JSONL files in, vectors out."""


@click.command(
    cls=Command,
    examples=(
        'eval "$(bulkembed completion bash)"      # in ~/.bashrc',
        'eval "$(bulkembed completion zsh)"       # in ~/.zshrc',
        "bulkembed completion fish | source       # in config.fish",
    ),
)
@click.argument("shell", type=WordChoice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a completion script for bash, zsh or fish."""
    kind = get_completion_class(shell)
    assert kind is not None  # One of click's own.
    root = ctx.find_root()
    click.echo(kind(root.command, {}, "bulkembed", COMPLETE_VARIABLE).source())


def main(args: list[str] | None = None) -> Any:
    """Run the command line. Errors of ours are one line on standard error and an exit code."""
    streams.open_all()
    set_log()
    try:
        return cli.main(args, prog_name="bulkembed")
    except BulkEmbedError as error:
        log.error("%s", error.message)
        sys.exit(int(error.exit_code))
    except Exception:
        log.exception("Unexpected error. Please report it with the lines below.")
        sys.exit(int(ExitCode.FAILED))
    finally:
        streams.settle()
