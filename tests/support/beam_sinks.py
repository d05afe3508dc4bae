"""Beam's own sinks, and pipelines whose rows are counted in the files that these write."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pandas as pd
import pyarrow.parquet as pq
from apache_beam.dataframe.convert import to_dataframe, to_pcollection
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from apache_beam.typehints import typehints
from apache_beam.typehints.row_type import RowTypeConstraint

from bulkembed import EmbedRows, Gemini, service_from
from bulkembed.emulator.server import EmulatorServer

ROWS = 700
BLANK = frozenset(range(7, ROWS, 100))
"""The rows that become dead letters, where a pipeline takes them."""
ROW = RowTypeConstraint.from_fields([("id", int), ("text", str)])


class Shape(enum.Enum):
    """How rows come to the stage and leave it."""

    PLAIN = "plain"
    DEAD_LETTERS = "dead-letters"
    KEYED_WINDOWS = "keyed-windows"
    """Dead letters as well."""
    GATHERED = "gathered"
    """Keyed windows and dead letters as well."""


class BatchFn(beam.DoFn):
    """A consumer that takes only batches, of whatever type its elements have."""

    @beam.DoFn.yields_elements
    def process_batch(self, batch: Any) -> Iterator[Any]:
        yield from batch

    def get_input_batch_type(self, element_type: Any) -> Any:
        return typehints.List[element_type]


@dataclasses.dataclass(frozen=True)
class Sink:
    """A sink of Beam's, and the ids in the files that it has written."""

    name: str
    write: Callable[[beam.PCollection[Any], str], object]
    ids: Callable[[Path], list[int]]


def text_ids(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().split()]


def write_ids(ids: beam.PCollection[str], prefix: str) -> object:
    return ids | f"Write {Path(prefix).name}" >> beam.io.WriteToText(prefix)


def write_batches(rows: beam.PCollection[Any], prefix: str) -> object:
    batched = rows | "Batch" >> beam.ParDo(BatchFn())
    return write_ids(batched | "Id" >> beam.Map(lambda row: str(row.id)), prefix)


def write_dead(letters: beam.PCollection[Any], prefix: str) -> object:
    batched = letters | "BatchDead" >> beam.ParDo(BatchFn())
    return write_ids(batched | "DeadId" >> beam.Map(lambda one: str(one.element.id)), prefix)


def write_frames(rows: beam.PCollection[Any], prefix: str) -> object:
    frames = to_pcollection(to_dataframe(rows)[["id"]], yield_elements="pandas")
    return write_ids(frames | "Ids" >> beam.FlatMap(lambda frame: map(str, frame["id"])), prefix)


SINKS = (
    Sink(
        "parquet",
        lambda rows, prefix: rows | beam.io.WriteToParquet(prefix),
        lambda file: pq.read_table(file)["id"].to_pylist(),
    ),
    Sink(
        "json",
        lambda rows, prefix: rows | beam.io.WriteToJson(prefix),
        lambda file: pd.read_json(file, lines=True)["id"].to_list(),
    ),
    Sink(
        "csv",
        lambda rows, prefix: rows | beam.io.WriteToCsv(prefix),
        lambda file: pd.read_csv(file)["id"].to_list(),
    ),
    Sink("data-frame", write_frames, text_ids),
    Sink("process-batch", write_batches, text_ids),
)


class Into(beam.PTransform):
    """Makes rows, embeds them and writes them to one sink."""

    def __init__(self, sink: Sink, shape: Shape, url: str, folder: Path) -> None:
        super().__init__()
        self._sink = sink
        self._shape = shape
        self._url = url
        self._folder = folder

    def expand(self, begin: Any) -> beam.PCollection[Any]:
        blank = BLANK if self._shape is not Shape.PLAIN else frozenset()
        rows = begin | beam.Create(range(ROWS), reshuffle=False) | beam.Map(a_row, blank)
        rows.element_type = ROW
        if self._shape in (Shape.KEYED_WINDOWS, Shape.GATHERED):
            rows = rows | Windowed()
        gemini = Gemini(dim=128, service=service_from(base_url=self._url))
        stage = EmbedRows(gemini, gather_s=0.2 if self._shape is Shape.GATHERED else None)
        if self._shape is Shape.PLAIN:
            good = rows | stage
        else:
            good, dead = rows | stage.with_exception_handling()
            write_dead(dead, str(self._folder / f"{self._sink.name}.dead"))
        self._sink.write(good, str(self._folder / f"{self._sink.name}.good"))
        return good


class Windowed(beam.PTransform):
    """Rows in windows of 300, from a group for each of ten keys."""

    def expand(self, rows: beam.PCollection[Any]) -> beam.PCollection[Any]:
        return (
            rows
            | beam.Map(lambda row: TimestampedValue((row.id % 10, row), row.id))
            | beam.WindowInto(FixedWindows(300))
            | beam.GroupByKey()
            | beam.FlatMap(lambda group: group[1]).with_output_types(ROW)
        )


def a_row(row_id: int, blank: frozenset[int]) -> beam.Row:
    return beam.Row(id=row_id, text="" if row_id in blank else f"text {row_id % 50}")


def written(
    pipeline: Callable[[], beam.Pipeline], shape: Shape, folder: Path
) -> dict[str, list[int]]:
    """Runs a pipeline into every sink; the sorted ids in the files of each, dead letters too."""
    with EmulatorServer() as server, pipeline() as running:
        for sink in SINKS:
            _ = running | sink.name >> Into(sink, shape, server.url, folder)
    found = {}
    for sink in SINKS:
        found[f"{sink.name}.good"] = ids_in(folder.glob(f"{sink.name}.good*"), sink.ids)
        found[f"{sink.name}.dead"] = ids_in(folder.glob(f"{sink.name}.dead*"), text_ids)
    return found


def all_rows(shape: Shape) -> dict[str, list[int]]:
    """What `written` finds where no row is lost."""
    blank = BLANK if shape is not Shape.PLAIN else frozenset()
    expected = {"good": sorted(set(range(ROWS)) - blank), "dead": sorted(blank)}
    return {f"{sink.name}.{which}": ids for sink in SINKS for which, ids in expected.items()}


def ids_in(files: Iterable[Path], read: Callable[[Path], list[int]]) -> list[int]:
    return sorted(row_id for file in files for row_id in read(file))
