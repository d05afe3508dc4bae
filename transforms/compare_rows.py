"""The stage that compares a synchronised dataset with its input, and stages the rows to send."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import apache_beam as beam

from bulkembed.schemas.compared import InputSlice, PartSlice

if TYPE_CHECKING:
    from bulkembed.transforms.dataset.dataset import Dataset
    from bulkembed.transforms.sync.compare_settings import CompareSettings

WANTED, COMMITTED, SLICE, PLACES = "wanted", "committed", "slice", "places"


class CompareRows(beam.PTransform):
    """Compare slices of the input with the parts of a dataset, by id.

    The elements are blocks of keys, about 100 bytes for each row, of one slice and one partition of
    the ids; neither texts nor vectors. Each partition's difference becomes a file for the
    launcher. Then the rows to send of each slice are staged.

    Args:
        settings: what the workers know.
        parts: the parts of the dataset.
    """

    def __init__(self, settings: CompareSettings, parts: Sequence[PartSlice]) -> None:
        super().__init__()
        self.settings = settings
        self.parts = list(parts)

    def expand(self, slices: beam.PCollection[InputSlice]) -> beam.PCollection[int]:
        """Return the numbers of the slices that have been staged."""
        settings = self.settings
        parts = slices.pipeline | "Parts" >> beam.Create(self.parts, reshuffle=False)
        rows = {
            WANTED: slices
            | "SpreadSlices" >> beam.Reshuffle()
            | "ReadInput" >> beam.ParDo(ReadInputFn(settings)).with_output_types(tuple[int, bytes]),
            COMMITTED: parts
            | "SpreadParts" >> beam.Reshuffle()
            | "ReadParts" >> beam.ParDo(ReadPartsFn(settings)).with_output_types(tuple[int, bytes]),
        }
        places = (
            rows
            | "GroupIds" >> beam.CoGroupByKey()
            | "Compare" >> beam.ParDo(CompareFn(settings)).with_output_types(tuple[int, bytes])
        )
        numbered = slices | "NumberSlices" >> beam.Map(_numbered).with_output_types(
            tuple[int, InputSlice]
        )
        return (
            {SLICE: numbered, PLACES: places}
            | "GroupPlaces" >> beam.CoGroupByKey()
            | "Stage" >> beam.ParDo(StageFn(settings))
        )


def _numbered(one: InputSlice) -> tuple[int, InputSlice]:
    return one.number, one


class _CompareFn(beam.DoFn):
    """A DoFn with the settings."""

    def __init__(self, settings: CompareSettings) -> None:
        self._settings = settings

    def _open(self) -> Dataset:
        from bulkembed.transforms.dataset.dataset import Dataset

        return Dataset.open(self._settings.job.output.uri)


class ReadInputFn(_CompareFn):
    """Reads slices of the input, by `row_reading.read_input_rows`."""

    def process(self, input_slice: InputSlice) -> Iterator[tuple[int, bytes]]:
        """Yield blocks of INPUT_ROW by partition."""
        from bulkembed.transforms.sync.media_reading import media_reader
        from bulkembed.transforms.sync.partitioned_blocks import blocks_of
        from bulkembed.transforms.sync.row_reading import read_input_rows

        compared = self._settings.compared
        with media_reader(compared) as media:
            found = (
                rows
                for piece in input_slice.pieces
                for _, rows in read_input_rows(
                    piece.file, piece.number, (piece.first_row, piece.rows), compared, media
                )
            )
            yield from blocks_of(found, self._settings.partitions)


class ReadPartsFn(_CompareFn):
    """Reads the small columns of parts, by `row_reading.read_committed_rows`."""

    def process(self, parts: PartSlice) -> Iterator[tuple[int, bytes]]:
        """Yield blocks of COMMITTED_ROW by partition."""
        from bulkembed.transforms.sync.partitioned_blocks import blocks_of
        from bulkembed.transforms.sync.row_reading import read_committed_rows

        settings, dataset = self._settings, self._open()
        found = (
            rows
            for part in parts.parts
            for rows in read_committed_rows(
                dataset, part, settings.compared, retried=settings.retry_failed
            )
        )
        yield from blocks_of(found, settings.partitions)


class CompareFn(_CompareFn):
    """Compares the rows of a partition, by `partitioned_blocks.block_difference`."""

    def process(
        self, grouped: tuple[int, Mapping[str, Iterable[bytes]]]
    ) -> Iterator[tuple[int, bytes]]:
        """Write the difference for the launcher; yield the places to send by slice."""
        from bulkembed.transforms.sync.partitioned_blocks import block_difference, write_difference

        partition, blocks = grouped
        found = block_difference(blocks[WANTED], blocks[COMMITTED])
        write_difference(self._open(), self._settings.job.run_id, partition, found)
        yield from self._settings.places.divided(found.send)


class StageFn(_CompareFn):
    """Stages the rows to send of a slice, by `shards.stage_slice`."""

    def process(self, grouped: tuple[int, Mapping[str, Iterable[Any]]]) -> Iterator[int]:
        """Write the shards, and a note for the launcher; yield the number of the slice."""
        from bulkembed.transforms.sync.partitioned_blocks import joined_places
        from bulkembed.transforms.sync.shards import stage_slice, write_staged_slice

        number, found = grouped
        places = joined_places(found[PLACES])
        (input_slice,) = found[SLICE]
        if len(places):
            job, dataset = self._settings.job, self._open()
            staged = stage_slice(dataset, job.output.uri, input_slice, places, job)
            write_staged_slice(dataset, job.run_id, number, staged)
            yield number
