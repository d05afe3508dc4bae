"""Publish a complete state of a dataset: its change feed, its manifest, and then its old parts go.

Each step is repeated by the next run if the process is killed, until `_SUCCESS` exists.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bulkembed.pipeline.logs import log
from bulkembed.schemas.errors import ConfigError, OutputError
from bulkembed.schemas.stop import RERUN
from bulkembed.transforms.dataset import part_files, run_file, scratch
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.id_index import (
    IdIndex,
    IdIndexWriter,
    InconsistentIndexError,
)
from bulkembed.transforms.dataset.known_places import SourcePart
from bulkembed.transforms.dataset.layout import IDS, SUCCESS, SUMMARIES
from bulkembed.transforms.dataset.manifest import (
    Manifest,
    ManifestPart,
    RunChanges,
    StateOrigin,
    read_manifest,
)
from bulkembed.transforms.dataset.part_difference import ChangeCounts, PartDifference
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.dataset.row_keys import hash_keys, id_keys
from bulkembed.transforms.dataset.segment_files import SegmentBuilder, SegmentFolder

FEED_VERSION = "1"


@dataclasses.dataclass(frozen=True, slots=True)
class PublishedRun:
    """The run that has completed a state."""

    run_id: str
    run_number: int
    kept: tuple[str, ...] = ()
    """The kept columns, which the change feed compares."""
    keep_superseded: bool = False
    """Whether the parts of the state before stay until another run is complete."""
    unique_ids: bool = False
    """Whether ids are known to be unique, as in a synchronised dataset."""
    index_digest: str = ""
    """The embedding digest, if the texts of new parts go into the index; else empty."""
    keep_changes_days: int | None = None
    """How long change feeds are kept; None for ever."""
    same_rows: bool = False
    """Whether rows were only moved between parts, as by a compaction: there is no change feed."""


@dataclasses.dataclass(frozen=True, slots=True)
class PublishedChanges:
    """What is known about the changes of a run."""

    counts: ChangeCounts | None = None
    """How many ids have changed since the last complete state; None if the parts are the same, or
    if that is not known because a part of the last state cannot be read."""
    repeated_ids: int | None = None
    """Rows with the id of another row; None if that was not counted."""
    rows: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """The rows of each part that was read."""
    ids: str = ""
    """The name of the index of ids; empty if there is none."""


def adopt_state(dataset: Dataset, state: DatasetState, run_id: str) -> None:
    """Write the manifest of a complete dataset that has none, before its first change.

    Args:
        dataset: the dataset.
        state: its commit records; damaged units may be missing.
        run_id: the run that completed it.
    """
    if dataset.manifest() is not None or SUCCESS not in dataset.names(""):
        return
    sizes = dataset.part_sizes()
    names = vector_parts(dataset, state, sizes)
    now = _now()
    parts = _manifest_parts(dataset, names, sizes, {})
    origin = StateOrigin(run_id, now)
    dataset.replace_manifest(Manifest(run_id, 0, now, parts, origin=origin))


def publish_state(dataset: Dataset, run: PublishedRun, state: DatasetState) -> PublishedChanges:
    """Write the change feed and the manifest of a complete state, and delete superseded parts.

    Raises:
        OutputError: a part of the new state cannot be read, or something cannot be written.
    """
    old = dataset.manifest()
    sizes = dataset.part_sizes()
    names = vector_parts(dataset, state, sizes)
    if old is not None and {part.name for part in old.parts} == set(names):
        _delete_superseded(dataset, old, names, run.keep_superseded)
        return PublishedChanges()
    now = _now()
    last = old or Manifest(run.run_id, 0, now, (), origin=StateOrigin(run.run_id, now))
    if run.same_rows:
        found, changes, origin = PublishedChanges(ids=last.ids), last.changes, last.origin
    else:
        found = PublishedChanges()
        try:
            before = old or _before_first(dataset)
            found = _write_feed(dataset, run, before, names, sizes, state)
            counts = found.counts or ChangeCounts()
            done = RunChanges(run.run_id, now, counts.added, counts.changed, counts.deleted)
            changes, origin = _recent((*before.changes, done), before.origin, run, now)
        except _OldStateUnknown as error:
            log.warning(
                "what changed in this run cannot be listed, because %s. Load the whole dataset "
                "again; the next runs list their changes.",
                error,
            )
            changes, origin = (), StateOrigin(run.run_id, now)
    known = {part.name: part for part in last.parts}
    parts = _manifest_parts(dataset, names, sizes, known, found.rows)
    replaced = known.keys() - set(names)
    kept = set(replaced) if run.keep_superseded else set()
    if run.keep_superseded and run.same_rows:
        kept |= set(last.superseded)  # The state is still the same.
    # If rows only moved, the state is the one that readers know by the id of the run before.
    state_id = last.run_id if run.same_rows else run.run_id
    manifest = Manifest(
        state_id, run.run_number, now, parts, changes, origin, found.ids, tuple(sorted(kept))
    )
    dataset.replace_manifest(manifest)
    gone = {*replaced, *last.superseded} - {*kept, *names}
    gone |= {last.ids} - {found.ids, ""}
    gone |= {one.feed for one in last.changes} - {one.feed for one in changes}
    dataset.delete(sorted(gone))
    return found


def _recent(
    changes: tuple[RunChanges, ...], origin: StateOrigin, run: PublishedRun, now: str
) -> tuple[tuple[RunChanges, ...], StateOrigin]:
    """Return the runs whose change feeds are kept, and the state that these are relative to."""
    if run.keep_changes_days is None:
        return changes, origin
    end, kept = dt.datetime.fromisoformat(now), dt.timedelta(days=run.keep_changes_days)
    is_recent = [end - dt.datetime.fromisoformat(one.time) < kept for one in changes]
    first = is_recent.index(True) if True in is_recent else len(changes) - 1
    if not first:
        return changes, origin
    last_gone = changes[first - 1]
    return changes[first:], StateOrigin(last_gone.run_id, last_gone.time, expired=True)


def vector_parts(dataset: Dataset, state: DatasetState, sizes: dict[str, int]) -> list[str]:
    """Return the names of the existing parts with vectors that the records name, sorted.

    Parts of missing input files may be lost: nothing can replace their rows.
    """
    found: set[str] = set()
    for parts in dataset.distinct_parts(state):
        found.update(name for name in parts.vectors if sizes.get(name))
    return sorted(found)


def _delete_superseded(
    dataset: Dataset, manifest: Manifest, names: Sequence[str], keep: bool
) -> None:
    """Delete the superseded parts of an earlier run, unless this one still keeps them."""
    if manifest.superseded and not keep:
        dataset.replace_manifest(dataclasses.replace(manifest, superseded=()))
        dataset.delete(set(manifest.superseded) - set(names))


class _OldStateUnknown(Exception):
    """The parts of the last complete state are not known, or one of them cannot be read."""


def _before_first(dataset: Dataset) -> Manifest:
    """Return the empty state before the first complete one, of a dataset without a manifest.

    Raises:
        _OldStateUnknown: there was a complete state, but its manifest is damaged, or an earlier
            version wrote none.
    """
    for name in dataset.names(SUMMARIES):
        with contextlib.suppress(OutputError):
            if _was_complete(dataset.read_json(f"{SUMMARIES}/{name}") or {}):
                raise _OldStateUnknown("the state before it has no readable manifest")
    return Manifest("", 0, "", (), origin=StateOrigin("", run_file.read(dataset)["created"]))


def _was_complete(summary: dict[str, Any]) -> bool:
    """Return whether a run left a complete dataset; a trial with `--limit-rows` ends with 0 too."""
    rows = summary.get("dataset")
    return summary.get("exit_code") == 0 and isinstance(rows, dict) and not rows.get("left")


def _write_feed(
    dataset: Dataset,
    run: PublishedRun,
    before: Manifest,
    names: Sequence[str],
    sizes: Mapping[str, int],
    state: DatasetState,
) -> PublishedChanges:
    """Write the change feed, and the index of ids unless these are unique."""
    with scratch.folder() as folder:
        found = _difference(dataset, run, before, names, sizes, state, folder)
        schema = found.schema({"bulkembed.feed": FEED_VERSION, "bulkembed.run": run.run_id})
        if schema is None:
            return PublishedChanges(ChangeCounts())
        feed = RunChanges(run.run_id, "").feed

        def write(stream: pa.NativeFile) -> None:
            options = {"compression": "zstd", "write_page_checksum": True}
            with pq.ParquetWriter(stream, schema, **options) as writer:
                part_files.write_list(writer, found.batches(schema))

        dataset.write_large(feed, write)
        if run.index_digest:
            _index_texts(dataset, run.index_digest, found, names, sizes, folder)
        if found.ids is None:
            return PublishedChanges(found.counts, None, found.rows)
        ids = f"{IDS}/{run.run_id}.keys"
        found.ids.store(dataset, ids)
        repeated = _repeated(dataset, found.ids, state)
        return PublishedChanges(found.counts, repeated, found.rows, ids)


def _index_texts(
    dataset: Dataset,
    digest: str,
    found: PartDifference,
    names: Sequence[str],
    sizes: Mapping[str, int],
    folder: Path,
) -> None:
    """Add the parts that were read for the feed to the index of text hashes.

    So the next run need not read them again.
    """
    segments = SegmentFolder(dataset, digest, folder, keep=True)
    try:
        counted, known, useless = frozenset(names), set[str](), []
        for segment in segments.stored():
            own = {part.name for part in segment.parts}
            known |= own
            if own.isdisjoint(counted):
                useless.append(segment)
        missing = (counted & found.rows.keys()) - known
        with SegmentBuilder(segments, sum(found.rows[name] for name in missing)) as builder:
            for name, hashes in found.text_hashes():
                if name in missing:
                    part = SourcePart(name, sizes[name], found.group_rows[name])
                    builder.add(part, map(hash_keys, hashes))
            builder.finish()
        segments.delete(useless)
    except OutputError as error:  # The next run reads the parts instead.
        log.warning("the index of text hashes is not written: %s", error.message)


def _difference(
    dataset: Dataset,
    run: PublishedRun,
    before: Manifest,
    names: Sequence[str],
    sizes: Mapping[str, int],
    state: DatasetState,
    folder: Path,
) -> PartDifference:
    rows = sum(part.rows for part in before.parts) + sum(one.embedded for one in state.records)
    old = {part.name for part in before.parts}
    removed = sorted(old - set(names))
    added = [name for name in names if name not in old]
    unchanged = [name for name in names if name in old]
    index: IdIndex | None = IdIndex.empty()
    if old and not run.unique_ids:
        index = IdIndex.open(dataset, before.ids, folder) if before.ids else None
    for known in (index, None):
        try:
            return PartDifference(
                dataset, removed, added, run.kept, folder,
                rows=rows, sizes=sizes, unchanged=unchanged, index=known, unique=run.unique_ids,
            )  # fmt: skip
        except InconsistentIndexError:
            log.info("the index of ids does not fit the parts. Reading all ids again.")
        except OutputError as error:
            if any(name in error.message for name in removed):
                raise _OldStateUnknown(
                    f"a part of the state before it is damaged: {error.message.rstrip('.')}"
                ) from error
            raise
    raise AssertionError("a difference without an index is always consistent")


def _repeated(dataset: Dataset, ids: IdIndexWriter, state: DatasetState) -> int | None:
    """Return how many rows repeat the id of another row, in vectors and dead letters.

    On a store, dead letters are not read: each of their files would cost several requests in every
    run.
    """
    if dataset.is_on_a_store:
        return ids.repeated
    keys = [np.empty(0, np.uint64)]
    try:
        for parts in dataset.distinct_parts(state):
            for name in parts.dead_letters:
                part = part_files.open_part(dataset, name)
                blocks = part_files.read_blocks(part, name, ["id"])
                keys += [id_keys(block.column("id").drop_null())[:, 0] for block in blocks]
    except OutputError as error:
        log.warning("repeated ids are not counted: %s", error.message)
        return None
    letters, rows = np.unique(np.concatenate(keys), return_counts=True)
    return ids.repeated + int((rows - 1).sum()) + ids.count_of(letters)


def _manifest_parts(
    dataset: Dataset,
    names: Sequence[str],
    sizes: dict[str, int],
    known: dict[str, ManifestPart],
    rows: Mapping[str, int] | None = None,
) -> tuple[ManifestPart, ...]:
    """Return the parts with their rows and sizes; those of the last manifest are known already."""
    rows = rows or {}
    return tuple(
        known[name]
        if name in known
        else ManifestPart(name, rows[name] if name in rows else _rows(dataset, name), sizes[name])
        for name in names
    )


def _rows(dataset: Dataset, name: str) -> int:
    return int(part_files.open_part(dataset, name).metadata.num_rows)


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="microseconds")


def published_state(output: str) -> Manifest:
    """Return the manifest of the dataset at a path or URI.

    Raises:
        ConfigError: there is no dataset, or it has no complete state.
        OutputError: the manifest is damaged.
    """
    dataset = Dataset.open(output)
    manifest = read_manifest(dataset)
    if manifest is not None:
        return manifest
    pinned = run_file.read(dataset)
    state = dataset.state()
    if SUCCESS not in dataset.names(""):
        raise ConfigError(
            f"{output}: no run has completed it yet, so there is no complete state to read. {RERUN}"
        )
    # A version without manifests has written it, so nothing is known about what changed before.
    sizes = dataset.part_sizes()
    parts = _manifest_parts(dataset, vector_parts(dataset, state, sizes), sizes, {})
    run_id, number = pinned["last_run_id"], pinned.get("run_number", 0)
    return Manifest(run_id, number, "", parts, origin=StateOrigin(run_id, _now()))
