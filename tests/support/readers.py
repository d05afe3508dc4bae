"""The table of docs/readers.md, and datasets of each kind that it has a column for."""

from __future__ import annotations

import re
from pathlib import Path

from emulator.server import EmulatorServer
from support.cli import process, run, write_rows
from support.pages import ROOT

PAGE = ROOT / "docs/readers.md"
SCRIPT = Path(__file__).with_name("read_vectors.py")
TYPES = ("float32", "float16")
ENCODINGS = ("plain", "byte_stream_split")
TEXTS = ("I took my dog to the vet", "I took my cat to the vet", "Shares fell on Monday")


def said_of(reader: str) -> list[str]:
    """What the table says: for each type, each encoding."""
    [row] = re.findall(rf"^\| {re.escape(reader)} \|(.*)\|$", PAGE.read_text(), re.MULTILINE)
    return [cell.strip() for cell in row.split("|")][1:]


def folders_of_vectors(place: Path, server: EmulatorServer) -> list[str]:
    """A dataset of each kind, written by the job, in the order of the table."""
    source = write_rows(place / "in/a.parquet", TEXTS)
    folders = []
    for kind in TYPES:
        for encoding in ENCODINGS:
            out = place / kind / encoding
            how = ("--vector-type", kind, "--vector-encoding", encoding)
            assert run(server.url, source, out, "--dim", 768, *how).code == 0
            folders.append(str(out / "vectors"))
    return folders


def outcomes(python: str, module: str, folders: list[str]) -> list[str]:
    """What a reader makes of them: `yes`, `no` or `wrong`."""
    ended = process(python, str(SCRIPT), module, *folders, timeout_s=100)
    assert ended.code == 0, ended.err
    return ended.out.splitlines()[-1].split()
