"""Notes of workers on input files that turned out to be damaged while they were read."""

from __future__ import annotations

import dataclasses
from typing import Any

from bulkembed.schemas.errors import InputError
from bulkembed.schemas.inputs import InputFile
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import DAMAGED


@dataclasses.dataclass(frozen=True, slots=True)
class DamagedFile:
    """A file that a run with `--skip-bad-files` could not read to its end."""

    key: str
    path: str
    message: str


def leave(dataset: Dataset, run_id: str, file: InputFile, error: InputError) -> None:
    """Note a file for the launcher, which counts its rows and lists it.

    Raises:
        OutputError: the note cannot be written.
    """
    note = DamagedFile(file.key, file.found.path, error.without_advice)
    dataset.write_json(f"{DAMAGED}/{run_id}-{file.key}.json", dataclasses.asdict(note))


def read(dataset: Dataset, run_id: str) -> list[DamagedFile]:
    """Return the notes of a run."""
    found = []
    for name in dataset.names(DAMAGED):
        if name.startswith(f"{run_id}-"):
            content = dataset.read_json(f"{DAMAGED}/{name}")
            if content is not None:
                found.append(_decoded(dataset, name, content))
    return found


def _decoded(dataset: Dataset, name: str, content: dict[str, Any]) -> DamagedFile:
    try:
        return DamagedFile(**{key: str(value) for key, value in content.items()})
    except TypeError as error:
        raise dataset.damaged_file(f"{DAMAGED}/{name}", str(error)) from None


def clear(dataset: Dataset) -> None:
    """Delete the notes of all runs; done by the launcher when its run has ended."""
    dataset.delete(f"{DAMAGED}/{name}" for name in dataset.names(DAMAGED))
