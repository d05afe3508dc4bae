"""Notes that the processes of a run write for each other, small JSON files in `_run/`.

Workers note why the run must end, which input files are damaged, what shared texts cost, and what
they did over time. A note's name begins with the run that it belongs to.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import Any, TypeVar

from bulkembed.schemas.errors import InputError, OutputError
from bulkembed.schemas.inputs import InputFile
from bulkembed.schemas.quota import QuotaLimits
from bulkembed.schemas.serialization import from_plain, to_plain
from bulkembed.schemas.stop import Stop, StopReason
from bulkembed.schemas.units import CallCounts
from bulkembed.transforms.core.timeline import Timeline, merge_timelines
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import DAMAGED, SHARED, STOPS, TIMELINE

TIMELINE_VERSION = 1
_SUFFIX = ".json"
_Note = TypeVar("_Note")

log = logging.getLogger("bulkembed")


def write_stop(dataset: Dataset, run_id: str, stop: Stop) -> None:
    """Note why a run must end, for its workers and its launcher; one note for each reason.

    A full disk has no room for the note. This process ends all the same, and logs why.
    """
    try:
        _write(dataset, STOPS, f"{run_id}-{stop.reason}", stop)
    except OutputError as error:
        message = error.message.rstrip(".")
        log.warning("%s. Other workers do not learn why to stop: %s", message, stop.message)


def read_stops(dataset: Dataset, run_id: str) -> list[Stop]:
    """Return why a run must end, the most serious reason first.

    The name of a damaged note still says the reason.
    """
    found = (_read_stop(dataset, name, run_id) for name in _names(dataset, STOPS, run_id))
    return sorted((stop for stop in found if stop is not None), key=lambda stop: stop.rank)


def _read_stop(dataset: Dataset, name: str, run_id: str) -> Stop | None:
    try:
        return _read(dataset, STOPS, name, Stop)
    except OutputError as error:
        reason = name.removeprefix(f"{run_id}-").removesuffix(_SUFFIX)
        if reason not in list(StopReason):
            return None
        message = f"a worker ended the run ({reason}), but its note is damaged: {error}"
        return Stop(StopReason(reason), message, time.time())


def delete_stops(dataset: Dataset) -> None:
    """Delete the notes of all runs on why they ended."""
    _delete(dataset, STOPS)


@dataclasses.dataclass(frozen=True, slots=True)
class DamagedFile:
    """An input file that a run with `--skip-bad-files` could not read to its end."""

    key: str
    path: str
    message: str


def write_damaged_file(dataset: Dataset, run_id: str, file: InputFile, error: InputError) -> None:
    """Note a damaged input file for the launcher, which counts its rows.

    Raises:
        OutputError: the note cannot be written.
    """
    note = DamagedFile(file.key, file.found.path, error.without_advice)
    _write(dataset, DAMAGED, f"{run_id}-{file.key}", note)


def read_damaged_files(dataset: Dataset, run_id: str) -> list[DamagedFile]:
    """Return the damaged input files of a run.

    Raises:
        OutputError: a note is damaged.
    """
    names = _names(dataset, DAMAGED, run_id)
    found = (_read(dataset, DAMAGED, name, DamagedFile) for name in names)
    return [note for note in found if note is not None]


def delete_damaged_files(dataset: Dataset) -> None:
    """Delete the notes of all runs on damaged input files."""
    _delete(dataset, DAMAGED)


def write_shared_counts(dataset: Dataset, name: str, counts: CallCounts) -> None:
    """Note what some shared texts cost, under a name that begins with the run; the note stays."""
    _write(dataset, SHARED, name, counts)


def total_shared_counts(dataset: Dataset) -> CallCounts:
    """Return what the shared texts of all runs cost.

    Raises:
        OutputError: a note is damaged.
    """
    total = CallCounts()
    for name in dataset.names(SHARED):
        if name.endswith(_SUFFIX):
            total += _read(dataset, SHARED, name, CallCounts) or CallCounts()
    return total


@dataclasses.dataclass(frozen=True, slots=True)
class RunTimeline:
    """What all processes of a run did over time, and the limits of the project."""

    run_id: str
    timeline: Timeline
    rpm: int | None = None
    """Texts or calls per minute."""
    tpm: int | None = None
    rpm_counts: str = "texts"


def write_timeline(
    dataset: Dataset, run_id: str, process: str, timeline: Timeline, limits: QuotaLimits
) -> None:
    """Note what a process has done so far; overwrites its earlier note, and stays.

    Raises:
        OutputError: the note cannot be written.
    """
    content = {
        "format_version": TIMELINE_VERSION,
        "rpm": limits.rpm,
        "tpm": limits.tpm,
        "rpm_counts": str(limits.rpm_counts),
        **timeline.to_json(),
    }
    dataset.write_json(f"{TIMELINE}/{run_id}-{process}{_SUFFIX}", content)


def read_last_timeline(dataset: Dataset) -> RunTimeline | None:
    """Return the timeline of the last run that sent requests; None if no run has.

    Raises:
        OutputError: a note is damaged.
    """
    names = dataset.names(TIMELINE)
    if not names:
        return None
    # The id of a run begins with the second of its start.
    run_id = names[-1].rpartition("-")[0]
    contents: list[dict[str, Any]] = [
        dataset.read_json(f"{TIMELINE}/{name}") or {}
        for name in names
        if name.startswith(f"{run_id}-")
    ]
    try:
        timelines = [Timeline.from_json(content) for content in contents]
        first = contents[0]
        limits = first["rpm"], first["tpm"], first["rpm_counts"]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise dataset.damaged_file(f"{TIMELINE}/{run_id}-*{_SUFFIX}", repr(error)) from None
    return RunTimeline(run_id, merge_timelines(timelines), *limits)


def _names(dataset: Dataset, folder: str, run_id: str) -> list[str]:
    return [name for name in dataset.names(folder) if name.startswith(f"{run_id}-")]


def _write(dataset: Dataset, folder: str, name: str, note: object) -> None:
    dataset.write_json(f"{folder}/{name}{_SUFFIX}", to_plain(note))


def _read(dataset: Dataset, folder: str, name: str, kind: type[_Note]) -> _Note | None:
    """Return a note; None if it was deleted meanwhile.

    Raises:
        OutputError: the note is damaged.
    """
    content = dataset.read_json(f"{folder}/{name}")
    try:
        return None if content is None else from_plain(content, kind)
    except ValueError as error:
        raise dataset.damaged_file(f"{folder}/{name}", str(error)) from None


def _delete(dataset: Dataset, folder: str) -> None:
    dataset.delete(f"{folder}/{name}" for name in dataset.names(folder))
