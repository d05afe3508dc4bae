"""What `make run` does: the library's docstrings, or the user's own files, and a look at them.

Source of the rules: INPUT, OUTPUT, ARGS and EMULATOR of the Makefile; see the README.
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
from bulkembed.schemas.errors import BulkEmbedError, ConfigError
from bulkembed.schemas.stop import ExitCode
from bulkembed.transforms.clients.keys import KEY_VARIABLES
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import VECTORS
from bulkembed.transforms.dataset.part_files import matrix_of

SAMPLE_ROWS = 20_000
"""Rows that are looked at: exact, and in memory."""
SHOWN = 3
NEIGHBOURS = 3


def show_neighbours(dataset: Dataset, text_column: str | None, console: Console) -> None:
    """Prints a few rows, and for each the rows nearest to it by cosine.

    Of equal texts only the first row is looked at: a copy is no news.
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


CORPUS = Path("corpus")
TRIAL_ROWS = 300
"""Rows of the corpus that are sent to the real service unless ARGS says otherwise."""


def demo(environ: dict[str, str]) -> int:
    """Runs `bulkembed run` as the variables ask, shows neighbours, and gives the exit code.

    Raises:
        ConfigError: the user's own files without a key, and nobody said that the emulator will do.
    """
    own, args = environ.get("INPUT", ""), shlex.split(environ.get("ARGS", ""))
    if own and uses_emulator(environ, args) and not _emulator_will_do(environ):
        raise ConfigError(
            "make run INPUT=...: there is no API key. Set GEMINI_API_KEY or GOOGLE_API_KEY, or "
            "EMULATOR=1 if the vectors may be the local emulator's, which are not Gemini's"
        )
    flags = _own_flags(own, environ) if own else _corpus_flags(environ, args)
    if uses_emulator(environ, args):
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


def uses_emulator(environ: dict[str, str], args: list[str]) -> bool:
    """Return whether the emulator is requested, or nothing gives access to a service."""
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
    from bulkembed.pipeline.demo.corpus import SHARDS, write_corpus

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
    pass
    from bulkembed.transforms.dataset.dataset import Dataset

    show_neighbours(Dataset.open(output), text_column, console(sys.stdout))


def main() -> None:
    """`python -m bulkembed.pipeline.demo`, with the variables in the environment."""
    try:
        sys.exit(demo(dict(os.environ)))
    except BulkEmbedError as error:
        click.echo(f"bulkembed: {error.message}", err=True)
        sys.exit(int(ExitCode.USAGE))
