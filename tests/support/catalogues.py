"""A catalogue that is exported again each night: written in any order, split in any way."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bulkembed.emulator.server import EmulatorServer

from .cli import Ended, matrix, read, run

Catalogue = dict[str, tuple[str | None, int]]
"""The text and the price of each product."""
SYNC = ("--sync", "--dim", "128", "--keep-columns", "price", "--unit-rows", "10")
Loaded = dict[tuple[str, int], tuple[int, bytes, Any]]
"""Price, hash and vector by id and passage."""


def catalogue(count: int = 60) -> Catalogue:
    return {f"p{n}": (f"product {n}", n % 7) for n in range(count)}


def write_export(folder: Path, rows: Catalogue, *, seed: int = 0, files: int = 3) -> Path:
    """Write a catalogue under new names, in place of an earlier export."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ids = list(rows)
    random.Random(seed).shuffle(ids)
    for number in range(files):
        some = ids[number::files]
        table = pa.table(
            {
                "id": pa.array(some, pa.string()),
                "text": pa.array([rows[name][0] for name in some], pa.string()),
                "price": pa.array([rows[name][1] for name in some], pa.int64()),
            }
        )
        pq.write_table(table, folder / f"export-{seed}-{number}.parquet")
    return folder


def sync(server: EmulatorServer, source: Path, output: object, *args: object) -> Ended:
    return run(server.url, source, output, *SYNC, *args)


def loaded(output: Path) -> Loaded:
    """Return all rows with vectors; each must be there once."""
    table = read(output)
    vectors = matrix(table)
    passages = table["passage"].to_pylist() if "passage" in table.column_names else [0] * len(table)
    found = {
        (name, passage): (price, text_hash, vector.tobytes())
        for name, passage, price, text_hash, vector in zip(
            table["id"].to_pylist(), passages, table["price"].to_pylist(),
            table["text_hash"].to_pylist(), vectors, strict=True,
        )
    }  # fmt: skip
    assert len(found) == table.num_rows
    return found


def from_nothing(source: Path, output: Path, *args: object) -> Loaded:
    """Return the rows of a dataset that is made of the same input, with another server."""
    with EmulatorServer() as server:
        assert sync(server, source, output, *args).code == 0
    return loaded(output)
