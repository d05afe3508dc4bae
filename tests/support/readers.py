"""The tables of docs/readers.md, and the datasets that they are about."""

from __future__ import annotations

import re
from pathlib import Path

from bulkembed.emulator.server import EmulatorServer
from support.cli import process, run, write_rows
from support.pages import ROOT

PAGE = ROOT / "docs/readers.md"
SCRIPT = Path(__file__).with_name("read_vectors.py")
TYPES = ("float32", "float16")
ENCODINGS = ("plain", "byte_stream_split")
TEXTS = ("I took my dog to the vet", "I took my cat to the vet", "Shares fell on Monday")


def cells_of(reader: str) -> list[str]:
    """Return the cells of a reader: for each type, each encoding."""
    return _row(reader, "## Which types and encodings each reader supports")[1:]


def cells_of_folders(reader: str) -> list[str]:
    """Return the cells of a reader: `OUT/vectors`, and `OUT` without and with dead letters."""
    return _row(reader, "## What to open")


def _row(reader: str, heading: str) -> list[str]:
    section = PAGE.read_text().partition(heading)[2].partition("\n## ")[0]
    [row] = re.findall(rf"^\| {re.escape(reader)} \|(.*)\|$", section, re.MULTILINE)
    return [cell.strip() for cell in row.split("|")]


def folders_of_vectors(place: Path, server: EmulatorServer) -> list[str]:
    """Write a dataset of each type and encoding, in the order of the table."""
    source = write_rows(place / "in/a.parquet", TEXTS)
    folders = []
    for kind in TYPES:
        for encoding in ENCODINGS:
            out = place / kind / encoding
            how = ("--vector-type", kind, "--vector-encoding", encoding)
            assert run(server.url, source, out, "--dim", 768, *how).code == 0
            folders.append(str(out / "vectors"))
    return folders


def folders_made_of(place: Path, server: EmulatorServer) -> list[str]:
    """Write a dataset with and one without dead letters; return the folders of the table.

    Both have a report.
    """
    clean, dead = place / "clean", place / "dead"
    for out, texts in ((clean, TEXTS), (dead, (*TEXTS, ""))):
        source = write_rows(place / f"in-{out.name}/a.parquet", texts)
        ended = run(server.url, source, out, "--dim", 128, "--report")
        assert ended.code == 0, ended.err
        assert (out / "_run/report.html").exists()
    return [str(dead / "vectors"), str(clean), str(dead)]


def outcomes_of_folders(python: str, module: str, folders: list[str]) -> list[str]:
    """Return what a reader does with each folder: `yes`, `no` (an error) or `wrong`."""
    script = SCRIPT.with_name("read_output.py")
    ended = process(python, str(script), module, folders[0], *folders, timeout_s=100)
    assert ended.code == 0, ended.err
    return ended.out.splitlines()[-1].split()


def outcomes(python: str, module: str, folders: list[str]) -> list[str]:
    """Return what a reader does with each folder: `yes`, `no` or `wrong`."""
    ended = process(python, str(SCRIPT), module, *folders, timeout_s=100)
    assert ended.code == 0, ended.err
    return ended.out.splitlines()[-1].split()
