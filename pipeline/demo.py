"""What `make run` does: the library's docstrings, or the user's own files, and a look at them.

Source of the rules: INPUT, OUTPUT, ARGS and EMULATOR of the Makefile; see the README.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import click

from pipeline.cli.main import main as command_line
from pipeline.cli.show import console
from schemas.errors import BulkEmbedError, ConfigError
from schemas.stop import ExitCode
from transforms.clients.keys import KEY_VARIABLES

CORPUS = Path("corpus")
TRIAL_ROWS = 300
"""Rows of the corpus that are sent to the real service unless ARGS says otherwise."""


def demo(environ: dict[str, str]) -> int:
    """Runs `bulkembed run` as the variables ask, shows neighbours, and gives the exit code.

    Raises:
        ConfigError: the user's own files without a key, and nobody said that the emulator will do.
    """
    own, args = environ.get("INPUT", ""), shlex.split(environ.get("ARGS", ""))
    if own and is_local(environ, args) and not _emulator_will_do(environ):
        raise ConfigError(
            "make run INPUT=...: there is no API key. Set GEMINI_API_KEY or GOOGLE_API_KEY, or "
            "EMULATOR=1 if the vectors may be the local emulator's, which are not Gemini's"
        )
    flags = _own_flags(own, environ) if own else _corpus_flags(environ, args)
    if is_local(environ, args):
        click.echo("no key is used: the vectors come from the local emulator", err=True)
        flags = [*flags, "--emulator"]
        service = "emulator"
    else:
        access = _key_name(environ) or "ARGS"
        click.echo(f"{access} gives access: the vectors come from the service", err=True)
        service = "gemini"
        if not own and "--limit-rows" not in " ".join(args):
            flags = [*flags, "--limit-rows", str(TRIAL_ROWS)]
    output = environ.get("OUTPUT") or f"out/docstrings-{service}"
    code = _run(["run", *flags, "--output", output, *args])
    if code == ExitCode.COMPLETE:
        _look(output, None if own else "text")
    return code


def is_local(environ: dict[str, str], args: list[str]) -> bool:
    """Whether the emulator answers: it is asked for, or nothing gives access to a service."""
    return _emulator_will_do(environ) or not (_key_name(environ) or _brings_its_own_access(args))


def _emulator_will_do(environ: dict[str, str]) -> bool:
    return environ.get("EMULATOR", "") not in ("", "0")


def _key_name(environ: dict[str, str]) -> str | None:
    return next((name for name in KEY_VARIABLES if environ.get(name, "").strip()), None)


def _own_flags(own: str, environ: dict[str, str]) -> list[str]:
    if not environ.get("OUTPUT"):
        raise ConfigError("make run INPUT=...: say where the vectors are to go, with OUTPUT=folder")
    return [word for pattern in shlex.split(own) for word in ("--input", pattern)]


def _corpus_flags(environ: dict[str, str], args: list[str]) -> list[str]:
    from pipeline.corpus import SHARDS, write_corpus

    if not all((CORPUS / shard).exists() for shard in SHARDS):
        rows = write_corpus(CORPUS)
        click.echo(f"{rows:,} docstrings of Python's standard library in {CORPUS}/", err=True)
    return ["--input", str(CORPUS), "--keep-columns", "module,text"]


def _brings_its_own_access(args: list[str]) -> bool:
    return any(
        arg.startswith(("--api-key-file", "--vertex-project", "--base-url", "--emulator"))
        for arg in args
    )


def _run(args: list[str]) -> int:
    try:
        command_line(args)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def _look(output: str, text_column: str | None) -> None:
    from pipeline.neighbours import show_neighbours
    from transforms.storage.dataset import Dataset

    show_neighbours(Dataset.open(output), text_column, console(sys.stdout))


def main() -> None:
    """`python -m pipeline.demo`, with the variables in the environment."""
    try:
        sys.exit(demo(dict(os.environ)))
    except BulkEmbedError as error:
        click.echo(f"bulkembed: {error.message}", err=True)
        sys.exit(int(ExitCode.USAGE))


if __name__ == "__main__":
    main()
