"""The manifest: the parts of the last complete state of a dataset, and how it came about.

Readers that open the parts that it names see that state also while a run is writing.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import orjson

from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.serialization import (
    Count,
    check_checksum,
    from_plain,
    to_plain,
    with_checksum,
)
from bulkembed.transforms.dataset.layout import CHANGES, MANIFEST

FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True, slots=True)
class ManifestPart:
    """A part with vectors; its content never changes."""

    name: str
    """Within the dataset, such as `vectors/part-....parquet`."""
    rows: Count
    size_bytes: Count


@dataclasses.dataclass(frozen=True, slots=True)
class StateOrigin:
    """The state that the first change feed is relative to."""

    run_id: str = ""
    """The run that completed it; empty if the dataset was empty."""
    time: str = ""
    expired: bool = False
    """Whether the feeds before it were deleted because of their age."""


@dataclasses.dataclass(frozen=True, slots=True)
class RunChanges:
    """A complete run that changed rows, with the number of ids by change."""

    run_id: str
    time: str
    """When it was complete: ISO 8601, UTC, with microseconds."""
    added: Count = 0
    changed: Count = 0
    deleted: Count = 0

    @property
    def feed(self) -> str:
        """The name of its change feed within the dataset."""
        return f"{CHANGES}/{self.run_id}.parquet"


@dataclasses.dataclass(frozen=True, slots=True)
class Manifest:
    """The parts of the last complete state, and the change feeds that led to it."""

    run_id: str
    """The run that completed it; a compaction, which only moves rows, changes nothing about it."""
    run_number: Count
    created: str
    parts: tuple[ManifestPart, ...]
    changes: tuple[RunChanges, ...] = ()
    """One for each complete run since `origin`, in order."""
    origin: StateOrigin = dataclasses.field(default_factory=StateOrigin)
    ids: str = ""
    """The name of the index of its ids within the dataset; empty if there is none."""
    superseded: tuple[str, ...] = ()
    """Parts of the state before that are kept for readers; see `--keep-superseded`."""

    @property
    def protected(self) -> frozenset[str]:
        """The parts that must not be deleted before another run is complete."""
        return frozenset(part.name for part in self.parts) | frozenset(self.superseded)


class ManifestStore(Protocol):
    """Reads and writes JSON files of a dataset."""

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Return the content of a JSON file; None if there is no such file."""

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file atomically."""


def read_manifest(dataset: ManifestStore) -> Manifest | None:
    """Return the manifest of a dataset; None if it has none yet.

    Raises:
        OutputError: it is damaged (`damaged` is set), of a newer version, or cannot be read.
    """
    content = dataset.read_json(MANIFEST)
    if content is None:
        return None
    version = content.get("format_version")
    if version != FORMAT_VERSION and isinstance(version, int):
        raise OutputError(f"{MANIFEST} has format {version}. Use a newer bulkembed.")
    try:
        check_checksum(content)
        return from_plain(content, Manifest)
    except ValueError as error:
        raise OutputError(f"{MANIFEST} is damaged: {error}.", damaged=True) from None


def check_manifest(data: bytes) -> None:
    """Raise ValueError if a manifest is damaged."""
    content = orjson.loads(data)
    from_plain(content, Manifest)
    check_checksum(content)


def write_manifest(dataset: ManifestStore, manifest: Manifest) -> None:
    """Replace the manifest atomically."""
    content = {"format_version": FORMAT_VERSION, **to_plain(manifest)}
    dataset.write_json(MANIFEST, with_checksum(content))
