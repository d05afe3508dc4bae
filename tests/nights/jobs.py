"""The nightly job of a catalogue: its commands, what they cost, and the rows that they leave."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from support.cli import Ended, matrix, parts, read, run

from bulkembed.emulator.server import EmulatorServer
from nights.catalogue import Night
from nights.model import Change, Changed
from nights.places import Disk, Place

DIM = 128
FLAGS = (
    "--dim", DIM, "--rpm", 0, "--tpm", 0, "--rpd", 0, "--unit-rows", 150, "--keep-columns", "*",
)  # fmt: skip

LoadedRow = tuple[bytes, tuple[str | None, ...]]
"""The vector and the kept columns of a row, as a reader of the dataset has them."""
Loaded = Mapping[str, LoadedRow]
"""The rows of a dataset by id."""

Feed = Mapping[str, tuple[Changed, LoadedRow | None]]
"""What happened to each id, and its new row."""


@dataclasses.dataclass
class NightlyJob:
    """A job that is started every night against one emulator."""

    place: Place
    server: EmulatorServer
    flags: tuple[object, ...] = FLAGS
    _paid: int = 0

    def run(self, output: str, *args: object) -> Ended:
        """Start the command of the job."""
        return self.place.call(
            "run", "--input", self.place.input, "--output", self.place.output(output),
            "--base-url", self.server.url, *self.flags, *args,
        )  # fmt: skip

    def paid(self) -> int:
        """Return how many texts were paid since this was called last."""
        texts = int(self.server.stats()["texts"])
        new, self._paid = texts - self._paid, texts
        return new

    def state(self, output: str) -> str:
        """Return the id of the last complete state of a dataset."""
        ended = self.place.call("parts", self.place.output(output), "--json")
        assert ended.code == 0, ended.err
        return str(json.loads(ended.out)["run_id"])

    def feed(self, output: str, columns: Sequence[str], since: str | None = None) -> Feed:
        """Return what `bulkembed changes` lists, by id."""
        return listed_changes(
            columns,
            lambda *args: self.place.call("changes", self.place.output(output), *args),
            since,
        )

    def loaded(self, output: str, columns: Sequence[str]) -> Loaded:
        """Return the rows of a dataset."""
        return load(self.place.fetch(self.place.output(output)), columns)


def listed_changes(
    columns: Sequence[str], call: Callable[..., Ended], since: str | None = None
) -> Feed:
    """Return what `bulkembed changes` lists, by id.

    Fails if it lists an id twice.

    Args:
        columns: the kept columns.
        call: calls `bulkembed changes OUT` with more words.
        since: the id of a state.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "changes.parquet"
        more = () if since is None else ("--since", since)
        ended = call("--with-vectors", "--output", file, *more)
        assert ended.code == 0, ended.err
        table = pq.read_table(file)
    if not len(table):
        return {}
    kept = table.filter(pc.not_equal(table["change"].cast(pa.string()), Change.DELETED))
    rows: dict[str, LoadedRow] = {}
    if len(kept):
        rows = dict(zip(kept["id"].to_pylist(), loaded_rows(kept, columns), strict=True))
    ids = table["id"].to_pylist()
    assert len(set(ids)) == len(ids), "an id is listed twice"
    listed = zip(ids, table["change"].to_pylist(), table["vector_changed"].to_pylist(), strict=True)
    return {one: (Changed(Change(kind), new), rows.get(one)) for one, kind, new in listed}


def load(folder: Path, columns: Sequence[str]) -> Loaded:
    """Return the rows of a dataset of this machine.

    Fails if an id occurs twice.
    """
    if not parts(folder, "vectors"):
        return {}
    table = read(folder)
    rows = dict(zip(table["id"].to_pylist(), loaded_rows(table, columns), strict=True))
    assert len(rows) == len(table), "an id occurs twice"
    return rows


def replayed(rows: Loaded, feed: Feed) -> Loaded:
    """Return what a loader has that applies a feed to the rows that it has loaded before."""
    after = dict(rows)
    for one, (changed, row) in feed.items():
        if row is None:
            assert changed.change is Change.DELETED
            del after[one]
        else:
            assert (one in after) == (changed.change is Change.CHANGED)
            after[one] = row
    return after


def loaded_rows(table: pa.Table, columns: Sequence[str]) -> list[LoadedRow]:
    """Return the vectors and columns of a table, row by row."""
    kept = [table[name].to_pylist() for name in columns]
    values = zip(*kept, strict=True) if kept else [()] * len(table)
    return [(row.tobytes(), tuple(one)) for row, one in zip(matrix(table), values, strict=True)]


def made_from_nothing(night: Night, folder: Path) -> Loaded:
    """Return the rows of a dataset that is made from a night's files in one run."""
    place = Disk(folder)
    place.export(night)
    with EmulatorServer() as server:
        ended = run(server.url, place.input, place.output("out"), *FLAGS)
        assert ended.code == 0, ended.err
    return load(folder / "out", night.columns)
