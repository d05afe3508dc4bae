"""Compact a dataset: merge its small parts into large ones, under the rules of a commit.

Readers see either the old parts or the merged ones. A killed compaction leaves both; the next
compaction or run deletes those that do not count.
"""

from __future__ import annotations

import collections
import dataclasses
import shutil
import time
from collections.abc import Iterable, Sequence

from bulkembed.pipeline.compact.merge_plan import TARGET_BYTES, is_small, plan_merges
from bulkembed.pipeline.logs import log
from bulkembed.pipeline.run.publish import PublishedRun, adopt_state, publish_state
from bulkembed.pipeline.run.summary import join_names
from bulkembed.schemas.errors import ConfigError, OutputError
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.stop import RERUN
from bulkembed.schemas.units import GroupRecord, PartsRecord, UnitRecord
from bulkembed.transforms.dataset import output_lock, run_file
from bulkembed.transforms.dataset.array_imports import import_pandas_first
from bulkembed.transforms.dataset.atomic_files import REPAIR
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import SUCCESS, partition_of
from bulkembed.transforms.dataset.merge import merge_units
from bulkembed.transforms.dataset.output_lock import LockOwner
from bulkembed.transforms.dataset.records import DatasetState, RecordParts


@dataclasses.dataclass(frozen=True, slots=True)
class CompactResult:
    """What a compaction has done."""

    output: str
    parts_before: int
    """Parts with vectors or dead letters."""
    parts_after: int
    merged_bytes: int
    """The size of the merged parts."""
    failed_units: int
    """Units that keep their own parts because they have failed rows, which can be retried."""
    seconds: float


def compact(
    output: str, target_bytes: int = TARGET_BYTES, *, keep_superseded: bool = False
) -> CompactResult:
    """Merge the small parts of the dataset at a path or URI.

    Args:
        output: the dataset; it must be complete.
        target_bytes: the maximum size of a merged part.
        keep_superseded: whether the parts that are replaced stay until the next complete run.

    Raises:
        ConfigError: there is no dataset, or it is incomplete.
        OutputLocked: a run is writing it.
        OutputTaken: another run has taken over the dataset.
        OutputError: parts are damaged, or a file cannot be read or written.
    """
    import_pandas_first()
    started = time.monotonic()
    dataset = Dataset.open(output)
    run_file.read(dataset)
    run_id = run_file.new_run_id("compact-")
    with output_lock.acquire(dataset, LockOwner(run_id, "bulkembed compact")):
        _check_complete(dataset, output)
        state = dataset.state()
        sizes = dataset.part_sizes()
        damaged, _ = dataset.check_parts(state)
        if damaged:
            raise OutputError(
                f"{output}: parts of {number_of(len(damaged), 'unit')} are missing or have another "
                f"size than was committed, so nothing was merged. {REPAIR}"
            )
        merges = _plan(dataset, state, sizes, target_bytes)
        before = _count_parts(dataset, state)
        if merges or SUCCESS not in dataset.names(""):
            _check_free_space(dataset, merges, sizes)
            merged = _merge(dataset, run_id, merges, state, keep_superseded=keep_superseded)
            state = dataset.state()
        else:
            merged = 0
        return CompactResult(
            output=output,
            parts_before=before,
            parts_after=_count_parts(dataset, state),
            merged_bytes=merged,
            failed_units=sum(one.dead > 0 for one in state.records),
            seconds=time.monotonic() - started,
        )


def result_lines(result: CompactResult) -> Iterable[tuple[str, str]]:
    """Yield the lines that describe a compaction, each as a label and a text."""
    yield "dataset", result.output
    if result.merged_bytes:
        size = f"{result.merged_bytes / 1e6:,.1f} MB"
        yield (
            "parts",
            f"{result.parts_before:,} before, {result.parts_after:,} now; {size} written in "
            f"{result.seconds:,.1f} s",
        )
    else:
        yield "parts", f"{result.parts_after:,}: nothing to merge"
    if result.failed_units:
        yield (
            "not merged",
            f"{number_of(result.failed_units, 'unit')} with failed rows. Run with --retry-failed, "
            "then compact again.",
        )


def _check_complete(dataset: Dataset, output: str) -> None:
    if SUCCESS in dataset.names("") or run_file.is_compacting(dataset):
        return
    raise ConfigError(
        f"{output} is incomplete, so nothing was merged. {RERUN} Then compact the dataset."
    )


def _plan(
    dataset: Dataset, state: DatasetState, sizes: dict[str, int], target: int
) -> list[list[PartsRecord]]:
    """Return the records whose parts are to be merged, in the order of their input rows."""
    candidates = []
    records = list(state.parts_records())
    for record, parts in zip(records, dataset.parts_of_each(records), strict=True):
        is_failed = isinstance(record, UnitRecord) and record.dead > 0
        if not is_failed and is_small(_sizes(parts, sizes), target):
            candidates.append(record)
    single = [record for record in candidates if isinstance(record, UnitRecord)]
    read = dict(zip(single, dataset.read_records(single), strict=True))
    candidates = [read[one] if isinstance(one, UnitRecord) else one for one in candidates]
    candidates.sort(key=_place_in_input)
    of_bytes = [_sizes(dataset.parts_of(record), sizes) for record in candidates]
    of_units = [_entries(record) for record in candidates]
    return [[candidates[at] for at in merged] for merged in plan_merges(of_bytes, of_units, target)]


def _place_in_input(record: PartsRecord) -> tuple[str, int]:
    first = record.members[0] if isinstance(record, GroupRecord) else record
    return first.source_file, first.unit.first_row


def _entries(record: PartsRecord) -> int:
    """Return how many entries the record of a group has for a record: units times partitions."""
    members = record.members if isinstance(record, GroupRecord) else (record,)
    return sum(max(1, len(member.part_rows)) for member in members)


def _sizes(parts: RecordParts, sizes: dict[str, int]) -> dict[str, int]:
    """Return the bytes of parts by partition; dead letters are in the one without a name."""
    found: collections.Counter[str] = collections.Counter()
    for part in parts.all:
        found[partition_of(part)] += sizes.get(part, 0)
    return found


def _count_parts(dataset: Dataset, state: DatasetState) -> int:
    return sum(len(parts.all) for parts in dataset.distinct_parts(state))


def _check_free_space(
    dataset: Dataset, merges: Sequence[Sequence[PartsRecord]], sizes: dict[str, int]
) -> None:
    """Raise OutputError if a local disk has no room for the merged parts beside the old ones."""
    if dataset.is_on_a_store:
        return
    parts = (dataset.parts_of(record) for merged in merges for record in merged)
    needed = sum(sum(_sizes(one, sizes).values()) for one in parts)
    free = shutil.disk_usage(dataset.root).free
    if needed > free:
        raise OutputError(
            f"{dataset.root}: the merged parts need about {needed / 1e9:,.2f} GB beside the old "
            f"ones, but the disk has {free / 1e9:,.2f} GB free. Free some space."
        )


def _merge(
    dataset: Dataset,
    run_id: str,
    merges: Sequence[Sequence[PartsRecord]],
    state: DatasetState,
    *,
    keep_superseded: bool,
) -> int:
    """Merge parts, and mark the dataset complete again; return the size of the merged parts."""
    adopt_state(dataset, state, run_file.read(dataset)["last_run_id"])
    run = run_file.take_for_compaction(dataset, run_id, after=dataset.last_run_number())
    dataset.delete([SUCCESS])
    dataset.delete(dataset.leftovers(state))
    written = 0
    for records in merges:
        made = merge_units(dataset, run, records, lambda: run_file.check_ownership(dataset, run))
        written += made.group.part_bytes
        log.info(
            "merged the parts of %s: %s",
            number_of(len(made.group.members), "unit"),
            join_names(dataset.parts_of(made.group).all, 3),
        )
    run_file.check_ownership(dataset, run)
    state = dataset.state()
    published = PublishedRun(
        run_id, run.run_number, keep_superseded=keep_superseded, same_rows=True
    )
    publish_state(dataset, published, state)
    dataset.delete(dataset.leftovers(state))
    dataset.write(SUCCESS, b"")
    return written
