"""The stage that removes rows from a synchronised dataset."""

from __future__ import annotations

from collections.abc import Iterator

import apache_beam as beam

from bulkembed.schemas.job import JobConfig


class RemoveRows(beam.PTransform):
    """Replace the parts of some records by copies without the rows to remove.

    The elements are the names of files that list the rows; see `removed_rows.write_removals`.

    Args:
        job: the run that holds the dataset.
    """

    def __init__(self, job: JobConfig) -> None:
        super().__init__()
        self.job = job

    def expand(self, names: beam.PCollection[str]) -> beam.PCollection[str]:
        """Return the names of the files of which all rows have been removed."""
        return (
            names
            | "SpreadRecords" >> beam.Reshuffle()
            | "Remove" >> beam.ParDo(RemoveFn(self.job)).with_output_types(str)
        )


class RemoveFn(beam.DoFn):
    """Removes rows, by `removed_rows.remove_all`."""

    def __init__(self, job: JobConfig) -> None:
        self._job = job

    def process(self, name: str) -> Iterator[str]:
        """Remove the rows that a file lists, and yield its name."""
        from bulkembed.transforms.dataset.dataset import Dataset
        from bulkembed.transforms.sync.removed_rows import read_removals, remove_all

        dataset = Dataset.open(self._job.output.uri)
        remove_all(dataset, self._job, read_removals(dataset, name))
        yield name
