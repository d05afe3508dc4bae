"""Shared code of the examples: folders, the choice of the service, jobs, output and pictures."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import textwrap
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from PIL import Image

from bulkembed.pipeline.cli.main import main as command_line
from bulkembed.pipeline.demo import demo
from bulkembed.pipeline.demo.corpus import docstrings

Floats = npt.NDArray[np.float32]

OUT = Path("out/examples")
DIM = "768"
EMULATOR = "the local emulator (sums of word vectors, not Gemini)"
BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#7F7F7F"
"""Colours for all kinds of colour vision. Source: Okabe and Ito, Color Universal Design, 2008."""

mpl.rcParams.update(
    {
        "figure.dpi": 100,
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)


class Embedded(NamedTuple):
    """Rows and vectors in the order of the input, and the service that made the vectors."""

    rows: list[dict[str, Any]]
    vectors: Floats
    service: str


def folder_of(example: str) -> Path:
    """Return the folder of an example's datasets, which differs for Gemini and the emulator."""
    folder = OUT / f"{example}-{'emulator' if uses_emulator() else 'gemini'}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows to a Parquet file."""
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)
    return path


def unique_docstrings(packages: Collection[str]) -> list[dict[str, str]]:
    """Return docstrings of packages of the standard library, without duplicates."""
    rows: dict[str, dict[str, str]] = {}
    for found in docstrings(packages):
        row = {"id": found.id, "package": found.module.split(".")[0], "text": found.text}
        rows.setdefault(found.text, row)
    return list(rows.values())


def bulkembed(*words: str | Path) -> None:
    """Print a `bulkembed` command and run it; the output of `run` goes to standard error."""
    args = [str(word) for word in words]
    if args[0] == "run":
        args += ["--no-report", *(["--emulator"] if uses_emulator() else []), *_args()]
    print(" \\\n".join(_folded(map(shlex.quote, args))))
    with contextlib.redirect_stdout(sys.stderr if args[0] == "run" else sys.stdout):
        try:
            command_line(args)
        except SystemExit as ended:
            if ended.code:
                raise


def _folded(words: Iterable[str]) -> list[str]:
    """Wrap a command; words are not split, and a flag stays on the line of its value."""
    command = " ".join(word.replace(" ", "\0") for word in words)
    glued = re.sub(r"(--\S+) (?!--)", "\\1\0", command)
    lines = textwrap.wrap(
        glued, 98, initial_indent="$ bulkembed ", subsequent_indent="    ", break_on_hyphens=False
    )
    return [line.replace("\0", " ") for line in lines]


def read(output: Path) -> Embedded:
    """Return a dataset; its vectors have unit length, so that a dot product is the cosine."""
    table = pq.read_table(output / "vectors").sort_by("source_row")
    flat = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = flat.reshape(table.num_rows, -1)
    return Embedded(table.drop_columns("vector").to_pylist(), vectors, _service(table.schema))


def save(figure: Figure, example: str, service: str) -> None:
    """Write the example's picture as a small file, with the service below it."""
    figure.supxlabel(f"vectors by {service}", x=0.99, ha="right", fontsize=7, color=GREY)
    drawn = io.BytesIO()
    figure.savefig(drawn)
    Image.open(drawn).convert("RGB").quantize(256).save(OUT / f"{example}.png", optimize=True)


def _service(schema: pa.Schema) -> str:
    """Return the service that made the vectors, from the metadata of the files."""
    metadata = {key.decode(): value.decode() for key, value in schema.metadata.items()}
    service, model = metadata["bulkembed.service"], metadata["bulkembed.model"]
    return EMULATOR if service == "emulator" else f"{model} ({service})"


def uses_emulator() -> bool:
    """Return whether the emulator makes the vectors."""
    return demo.uses_emulator(dict(os.environ), _args())


def _args() -> list[str]:
    return shlex.split(os.environ.get("ARGS", ""))
