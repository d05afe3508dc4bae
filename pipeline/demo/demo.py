"""The demo of `make run`: embeds docstrings, or the user's own files, and prints neighbours.

The Makefile passes its variables INPUT, OUTPUT, ARGS and EMULATOR in the environment.
"""

from __future__ import annotations

import os
import shlex
import sys
import textwrap
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
from rich.console import Console

from bulkembed.pipeline.cli.main import main as command_line
from bulkembed.pipeline.cli.show import console
from bulkembed.pipeline.demo.corpus import SHARDS, write_corpus
from bulkembed.schemas.errors import BulkEmbedError, ConfigError
from bulkembed.schemas.stop import ExitCode
from bulkembed.transforms.clients.keys import KEY_VARIABLES
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import VECTORS
from bulkembed.transforms.dataset.part_files import matrix_of

CORPUS = Path("corpus")
TRIAL_ROWS = 300
"""Rows of the corpus to send to the real service, unless ARGS sets another number."""
SAMPLE_ROWS = 20_000
"""Rows to search for neighbours. Their vectors are in memory."""
SHOWN = 3
NEIGHBOURS = 3


def main() -> None:
    """Run the demo with the variables of the environment: `python -m bulkembed.pipeline.demo`."""
    try:
        sys.exit(demo(dict(os.environ)))
    except BulkEmbedError as error:
        click.echo(f"bulkembed: {error.message}", err=True)
        sys.exit(int(ExitCode.USAGE))


def demo(environ: dict[str, str]) -> int:
    """Run `bulkembed run` as the variables say, print neighbours, and return the exit code.

    Raises:
        ConfigError: the user's own files, but neither a key nor the choice of the emulator.
    """
    own, args = environ.get("INPUT", ""), shlex.split(environ.get("ARGS", ""))
    if own and uses_emulator(environ, args) and not _allows_emulator(environ):
        raise ConfigError(
            "make run INPUT=...: no API key found. Set GEMINI_API_KEY or GOOGLE_API_KEY, or set "
            "EMULATOR=1 to use the local emulator, whose vectors are not Gemini's."
        )
    flags = _own_flags(own, environ) if own else _corpus_flags()
    if uses_emulator(environ, args):
        click.echo("No API key is used: the local emulator makes the vectors.", err=True)
        flags = [*flags, "--emulator"]
        service = "emulator"
    else:
        access = _key_name(environ) or "ARGS"
        click.echo(f"Using the access of {access}: the service makes the vectors.", err=True)
        service = "gemini"
        if not own and "--limit-rows" not in " ".join(args):
            flags = [*flags, "--limit-rows", str(TRIAL_ROWS)]
    output = environ.get("OUTPUT") or f"out/docstrings-{service}"
    code = _run(["run", *flags, "--output", output, *args])
    if code == ExitCode.COMPLETE:
        show_neighbours(Dataset.open(output), None if own else "text", console(sys.stdout))
    return code


def uses_emulator(environ: dict[str, str], args: list[str]) -> bool:
    """Return whether the emulator is used: it is chosen, or nothing gives access to a service."""
    return _allows_emulator(environ) or not (_key_name(environ) or _gives_access(args))


def _allows_emulator(environ: dict[str, str]) -> bool:
    return environ.get("EMULATOR", "") not in ("", "0")


def _key_name(environ: dict[str, str]) -> str | None:
    return next((name for name in KEY_VARIABLES if environ.get(name, "").strip()), None)


def _gives_access(args: list[str]) -> bool:
    return any(
        arg.startswith(("--api-key-file", "--vertex-project", "--base-url", "--emulator"))
        for arg in args
    )


def _own_flags(own: str, environ: dict[str, str]) -> list[str]:
    if not environ.get("OUTPUT"):
        raise ConfigError("make run INPUT=...: no output folder. Set OUTPUT=folder.")
    return [word for pattern in shlex.split(own) for word in ("--input", pattern)]


def _corpus_flags() -> list[str]:
    if not all((CORPUS / shard).exists() for shard in SHARDS):
        click.echo("Collecting the docstrings of Python's standard library ...", err=True)
        rows = write_corpus(CORPUS)
        click.echo(f"{rows:,} docstrings written to {CORPUS}/", err=True)
    return ["--input", str(CORPUS), "--keep-columns", "module,text"]


def _run(args: list[str]) -> int:
    try:
        command_line(args)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def show_neighbours(dataset: Dataset, text_column: str | None, console: Console) -> None:
    """Print a few rows, each with its nearest rows by cosine.

    Only the first row of duplicate texts counts.
    """
    table = _sample(dataset, text_column)
    if table.num_rows <= NEIGHBOURS:
        return
    vectors = matrix_of(table)
    names = [
        _name(row, text_column) for row in table.drop_columns(["vector", "text_hash"]).to_pylist()
    ]
    _, first = np.unique(table.column("text_hash").to_pylist(), return_index=True)
    distinct = np.sort(first)
    picked = np.unique(np.linspace(0, len(distinct) - 1, SHOWN + 2).astype(int)[1:-1])
    for row in distinct[picked]:
        scores = vectors @ vectors[row]
        order = [other for other in distinct[np.argsort(-scores[distinct])] if other != row]
        console.print(f"\n{names[row]}", style="bold", markup=False)
        for other in order[:NEIGHBOURS]:
            console.print(f"  {scores[other]:.3f}  {names[other]}", markup=False)


def _sample(dataset: Dataset, text_column: str | None) -> pa.Table:
    parts = [dataset.path(VECTORS, name) for name in dataset.names(VECTORS)]
    source = pads.dataset(parts, filesystem=dataset.filesystem, format="parquet")
    wanted = [
        "id",
        "vector",
        "text_hash",
        *([text_column] if text_column in source.schema.names else []),
    ]
    return source.head(SAMPLE_ROWS, columns=wanted)


def _name(row: dict[str, object], text_column: str | None) -> str:
    text = " ".join(str(row.get(text_column) or "").split()) if text_column else ""
    return f"{row['id']}: {textwrap.shorten(text, 90)}" if text else str(row["id"])
