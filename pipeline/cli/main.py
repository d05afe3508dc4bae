"""The `bulkembed` command: its subcommands, loaded when they are called."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from pipeline import signals

if Path(sys.argv[0]).name == "bulkembed":
    signals.end_at_once()  # The imports below take a while.

import click

from pipeline import streams
from pipeline.logs import log, set_log
from schemas.errors import BulkEmbedError, ConfigError, OutputLocked
from schemas.stop import ExitCode

COMMANDS = {
    "run": ("pipeline.cli.run_command", "run"),
    "estimate": ("pipeline.cli.estimate_command", "estimate"),
    "status": ("pipeline.cli.status_command", "status"),
    "verify": ("pipeline.cli.verify_command", "verify"),
    "search": ("pipeline.cli.search_command", "search"),
    "report": ("pipeline.cli.report_command", "report"),
    "models": ("pipeline.cli.models_command", "models"),
    "emulator": ("emulator.command", "emulator"),
    "completion": ("pipeline.cli.completion_command", "completion"),
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
