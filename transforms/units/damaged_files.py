"""What the damage of an input file does to a run, wherever its rows are read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TypeVar

from bulkembed.schemas.errors import InputError
from bulkembed.schemas.inputs import InputFile
from bulkembed.schemas.job import JobConfig
from bulkembed.transforms.dataset import worker_notes
from bulkembed.transforms.dataset.dataset import Dataset

Read = TypeVar("Read")

log = logging.getLogger("bulkembed")


def skip_damage(
    dataset: Dataset, job: JobConfig, file: InputFile, rows: Iterator[Read]
) -> Iterator[Read]:
    """Yield what is read from a file; with `--skip-bad-files`, note damage and end there.

    Args:
        dataset: gets the note.
        job: the run.
        file: the file.
        rows: reads it.

    Raises:
        InputError: the file is damaged, and the run does not skip such files.
    """
    try:
        yield from rows
    except InputError as error:
        note_damage(dataset, job, file, error)


def note_damage(dataset: Dataset, job: JobConfig, file: InputFile, error: InputError) -> None:
    """Note that a file is skipped because of an error.

    Raises:
        InputError: the error, if the file is not damaged, or the run does not skip such files.
    """
    if not (job.skip_bad_files and error.damaged):
        raise error
    log.warning("skipped by --skip-bad-files: %s", error.without_advice)
    worker_notes.write_damaged_file(dataset, job.run_id, file, error)
