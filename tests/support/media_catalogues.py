"""A catalogue of products with photos that is exported again each night."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bulkembed.emulator.server import EmulatorServer

from .cli import Ended, matrix, read, run
from .images import picture

SYNC = (
    "--sync", "--model", "gemini-embedding-2", "--dim", 128, "--keep-columns", "price",
    "--content", "{title}", "--content", "image:photo", "--unit-rows", 10, "--max-delete", "50%",
)  # fmt: skip
Catalogue = dict[str, tuple[str | None, Any, int]]
"""The title, photo and price of each product."""
PHOTOS = {"bytes": pa.binary(), "path": pa.string(), "url": pa.string()}


def catalogue(form: str, folder: Path, count: int = 30) -> Catalogue:
    """Products with photos; the files of paths are in `img/` beside the exports."""
    shutil.rmtree(folder, ignore_errors=True)
    return {f"p{n}": (f"t{n}", photo(form, folder, n), n % 5) for n in range(count)}


def photo(form: str, folder: Path, number: int) -> Any:
    """A value of the column, whose file exists."""
    if form == "bytes":
        return picture(number)
    name = f"img/{number}.jpg"
    put(folder, name, picture(number))
    return name


def put(folder: Path, name: str, data: bytes) -> None:
    """Write a file, long ago enough that its time is one of its own."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def write_export(folder: Path, rows: Catalogue, night: int, kind: pa.DataType) -> Path:
    """Write a catalogue under new names and in another order, in place of an earlier export."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.parquet"):
        old.unlink()
    ids = list(rows) if night % 2 else list(rows)[::-1]
    for number in range(2):
        some = ids[number::2]
        table = pa.table(
            {
                "id": pa.array(some, pa.string()),
                "title": pa.array([rows[one][0] for one in some], pa.string()),
                "photo": pa.array([rows[one][1] for one in some], kind),
                "price": pa.array([rows[one][2] for one in some], pa.int64()),
            }
        )
        pq.write_table(table, folder / f"night-{night}-{number}.parquet")
    return folder


def sync(server: EmulatorServer, source: Path, output: Path, *args: object) -> Ended:
    return run(server.url, source, output, *SYNC, *args)


def loaded(output: Path) -> dict[str, tuple[int, bytes, bytes, Any]]:
    """Price, hash, vector and media by id."""
    table = read(output)
    columns = (table[name].to_pylist() for name in ("id", "price", "text_hash", "media"))
    rows = zip(*columns, matrix(table), strict=True)
    found = {name: (*facts, media, vector.tobytes()) for name, *facts, media, vector in rows}
    assert len(found) == table.num_rows
    return found


def from_nothing(source: Path, output: Path, *args: object) -> dict[str, Any]:
    with EmulatorServer() as server:
        assert sync(server, source, output, *args).code == 0
    return loaded(output)
