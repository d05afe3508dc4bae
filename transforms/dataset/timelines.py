"""`_run/timeline/`: what the processes of a run did over time, a small file each."""

from __future__ import annotations

import dataclasses
from typing import Any

from bulkembed.schemas.quota import QuotaLimits
from bulkembed.transforms.core.timeline import Timeline, merge
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import TIMELINE

FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True, slots=True)
class RunTimeline:
    """All processes of a run together, and the limits that they kept."""

    run_id: str
    timeline: Timeline
    rpm: int | None = None
    """Texts, or calls, a minute; the project's."""
    tpm: int | None = None
    rpm_counts: str = "texts"


def write(
    dataset: Dataset, run_id: str, process: str, timeline: Timeline, limits: QuotaLimits
) -> None:
    """Writes down what a process did so far, over what it wrote before.

    Raises:
        OutputError: it cannot be written.
    """
    content = {
        "format_version": FORMAT_VERSION,
        "rpm": limits.rpm,
        "tpm": limits.tpm,
        "rpm_counts": str(limits.rpm_counts),
        **timeline.to_json(),
    }
    dataset.write_json(f"{TIMELINE}/{run_id}-{process}.json", content)


def read_last(dataset: Dataset) -> RunTimeline | None:
    """The timeline of the last run that sent calls; None where no run has.

    Raises:
        OutputError: a file is damaged.
    """
    names = dataset.names(TIMELINE)
    if not names:
        return None
    # A run's id begins with the second in which it began.
    run_id = names[-1].rpartition("-")[0]
    contents = [_read(dataset, name) for name in names if name.startswith(f"{run_id}-")]
    try:
        timelines = [Timeline.from_json(content) for content in contents]
        first = contents[0]
        limits = first["rpm"], first["tpm"], first["rpm_counts"]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise dataset.damaged_file(f"{TIMELINE}/{run_id}-*.json", repr(error)) from None
    return RunTimeline(run_id, merge(timelines), *limits)


def _read(dataset: Dataset, name: str) -> dict[str, Any]:
    return dataset.read_json(f"{TIMELINE}/{name}") or {}
