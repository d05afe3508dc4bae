"""Notes that tell every worker, and the launcher, why a run is to end early."""

from __future__ import annotations

import dataclasses
import logging
import time

from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.stop import Stop, StopReason
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import STOPS

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
    """Return the notes of a run, the most serious one first; of a damaged one its name counts."""
    found = []
    for name in dataset.names(STOPS):
        if name.startswith(f"{run_id}-"):
            stop = _read(dataset, name, name.removeprefix(f"{run_id}-").removesuffix(".json"))
            if stop is not None:
                found.append(stop)
    return sorted(found, key=lambda stop: stop.rank)


def _read(dataset: Dataset, name: str, reason: str) -> Stop | None:
    try:
        content = dataset.read_json(f"{STOPS}/{name}")
        return None if content is None else Stop.from_facts(content)
    except (OutputError, ValueError, KeyError, TypeError) as error:
        if reason not in list(StopReason):
            return None
        message = f"the run was told to end ({reason}); the note that says why is damaged: {error}"
        return Stop(StopReason(reason), message, time.time())


def clear(dataset: Dataset) -> None:
    """Deletes the notes of all runs: done by the launcher when its run has ended."""
    dataset.delete(f"{STOPS}/{name}" for name in dataset.names(STOPS))
