"""Notes that tell every worker, and the launcher, why a run is to end early."""

from __future__ import annotations

import dataclasses
import logging

from schemas.errors import OutputError
from schemas.stop import Stop
from transforms.storage.dataset import STOPS, Dataset

log = logging.getLogger("bulkembed")


def leave(dataset: Dataset, run_id: str, stop: Stop) -> None:
    """Leaves the note; one for each reason is enough.

    On a full disk there is no room for it: the run ends here all the same, and its last lines,
    which cannot be written either, say why.
    """
    try:
        dataset.write_json(f"{STOPS}/{run_id}-{stop.reason}.json", dataclasses.asdict(stop))
    except OutputError as error:
        log.warning("%s; the other workers are not told to end: %s", error.message, stop.message)


def read(dataset: Dataset, run_id: str) -> list[Stop]:
    """The notes of a run, the most serious one first."""
    found = []
    for name in dataset.names(STOPS):
        if name.startswith(f"{run_id}-"):
            content = dataset.read_json(f"{STOPS}/{name}")
            if content is not None:
                found.append(Stop.from_facts(content))
    return sorted(found, key=lambda stop: stop.rank)


def clear(dataset: Dataset) -> None:
    """Deletes the notes of all runs: done by the launcher when its run has ended."""
    dataset.delete(f"{STOPS}/{name}" for name in dataset.names(STOPS))
