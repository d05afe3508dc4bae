"""What the examples have in common: the folder, the service, the job, its output, the pictures."""

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
"""Colours that every eye tells apart.  Source: Okabe and Ito, Color Universal Design, 2008."""

mpl.rcParams.update(
    {
        "figure.dpi": 100,
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)


class Embedded(NamedTuple):
    """What `read` gives: rows and vectors in the order of the input, and who made the vectors."""

    rows: list[dict[str, Any]]
    vectors: Floats
    service: str


def place(example: str) -> Path:
    """The folder of an example's datasets: one for Gemini's and one for the emulator's."""
    folder = OUT / f"{example}-{'emulator' if is_local() else 'gemini'}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Rows as a Parquet file."""
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)
    return path


def unique_docstrings(packages: Collection[str]) -> list[dict[str, str]]:
    """Docstrings of packages of the standard library, each text once."""
    rows: dict[str, dict[str, str]] = {}
    for found in docstrings(packages):
        row = {"id": found.id, "package": found.module.split(".")[0], "text": found.text}
        rows.setdefault(found.text, row)
    return list(rows.values())


def bulkembed(*words: str | Path) -> None:
    """Prints a `bulkembed` command and runs it; what a run reports goes to standard error."""
    args = [str(word) for word in words]
    if args[0] == "run":
        args += ["--no-report", *(["--emulator"] if is_local() else []), *_args()]
    print(" \\\n".join(_folded(map(shlex.quote, args))))
    with contextlib.redirect_stdout(sys.stderr if args[0] == "run" else sys.stdout):
        try:
            command_line(args)
        except SystemExit as ended:
            if ended.code:
                raise


def _folded(words: Iterable[str]) -> list[str]:
    """Lines of a page's width; a word stays whole, and a flag beside its value."""
    command = " ".join(word.replace(" ", "\0") for word in words)
    glued = re.sub(r"(--\S+) (?!--)", "\\1\0", command)
    lines = textwrap.wrap(
        glued, 98, initial_indent="$ bulkembed ", subsequent_indent="    ", break_on_hyphens=False
    )
    return [line.replace("\0", " ") for line in lines]


def read(output: Path) -> Embedded:
    """A dataset as Python has it; vectors are of unit length, so a dot product is the cosine."""
    table = pq.read_table(output / "vectors").sort_by("source_row")
    flat = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = flat.reshape(table.num_rows, -1)
    return Embedded(table.drop_columns("vector").to_pylist(), vectors, _service(table.schema))


def save(figure: Figure, example: str, service: str) -> None:
    """Writes the example's picture in few bytes, with the service below it."""
    figure.supxlabel(f"vectors by {service}", x=0.99, ha="right", fontsize=7, color=GREY)
    drawn = io.BytesIO()
    figure.savefig(drawn)
    Image.open(drawn).convert("RGB").quantize(256).save(OUT / f"{example}.png", optimize=True)


def _service(schema: pa.Schema) -> str:
    """Who made the vectors, by the words of the files themselves."""
    said = {key.decode(): value.decode() for key, value in schema.metadata.items()}
    service, model = said["bulkembed.service"], said["bulkembed.model"]
    return EMULATOR if service == "emulator" else f"{model} ({service})"


def is_local() -> bool:
    """Whether the emulator answers."""
    return demo.is_local(dict(os.environ), _args())


def _args() -> list[str]:
    return shlex.split(os.environ.get("ARGS", ""))
