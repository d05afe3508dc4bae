"""The end of a run: clean up the dataset, count its rows, and mark it complete."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import time
from collections.abc import Sequence

from bulkembed.pipeline.logs import log
from bulkembed.pipeline.run.life_cost import (
    LifeCost,
    billed_tokens,
    read_life_spending,
    settle_life_spending,
)
from bulkembed.pipeline.run.plan import Plan, remaining_rows
from bulkembed.pipeline.run.publish import PublishedRun, publish_state
from bulkembed.pipeline.run.request import RunRequest
from bulkembed.pipeline.run.scans import (
    Scans,
    planned_files,
    save_scans,
    unreadable_input_error,
)
from bulkembed.pipeline.run.summary import (
    FailedFile,
    RowCounts,
    RunSummary,
    batch_counts,
    call_counts,
    count_rows,
    dead_codes,
    rows_line,
)
from bulkembed.pipeline.sync.mirror import Mirror
from bulkembed.pipeline.sync.removal import remove_rows
from bulkembed.pipeline.sync.staged_work import delete_other_shards
from bulkembed.pipeline.sync.sync_file import digest_of_records, goal_of, write_goal
from bulkembed.schemas.errors import InputError, OutputError
from bulkembed.schemas.inputs import InputFile
from bulkembed.schemas.job import Dedupe, JobConfig
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.output_schema import part_metadata, vectors_schema
from bulkembed.schemas.stop import Stop, StopReason
from bulkembed.schemas.units import UnitRecord
from bulkembed.transforms.calls import metrics
from bulkembed.transforms.core.ranges import is_within, merge_ranges
from bulkembed.transforms.dataset import (
    atomic_files,
    kept_answers,
    run_file,
    worker_notes,
)
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import EMPTY_PART, SUCCESS, SUMMARIES, VECTORS
from bulkembed.transforms.dataset.part_files import part_writer
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.dataset.replace import withdraw_replaced, withdraw_units
from bulkembed.transforms.inputs.stored_bytes import has_changed, is_as_before


@dataclasses.dataclass(frozen=True, slots=True)
class OldFile:
    """A file with committed rows that is missing from the input or has changed."""

    name: str
    records: tuple[UnitRecord, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What is known about a run when its pipeline has ended."""

    request: RunRequest
    job: JobConfig
    scans: Scans
    plan: Plan
    before: DatasetState
    counters: dict[str, int]
    mirror: Mirror | None = None
    """What a synchronisation found; None for other runs."""

    def rows(self, state: DatasetState) -> RowCounts:
        """Return the state of the input's rows."""
        if self.mirror is None:
            return dataset_rows(self.scans, state)
        return goal_of(self.job, self.mirror, self.plan).rows(state.records)


def finish(dataset: Dataset, outcome: Outcome, seconds: float) -> RunSummary:
    """Finish the dataset, and return the summary, which counts every row once.

    Raises:
        OutputTaken: another run has taken over the dataset; nothing is changed.
        OutputError: the rows do not add up, parts are damaged, or something cannot be written.
    """
    request, job, plan = outcome.request, outcome.job, outcome.plan
    _check_owner(dataset, job)
    planned = outcome.scans
    outcome = _without_damaged(dataset, outcome)
    stops = worker_notes.read_stops(dataset, job.run_id)
    after = dataset.state() if plan.work else outcome.before
    missing: list[OldFile] = []
    replaced: list[OldFile] = []
    if outcome.mirror is None:
        missing, replaced = outdated_files(dataset, outcome.scans, after)
    rows = outcome.rows(after)
    rows.check()
    if plan.work and not rows.left:
        _check_sizes(dataset, outcome, after)
    suspects = _suspects(outcome)
    # A stopping run has no time to read them, so the next run does.
    changed = [] if stops else [file for file in suspects if _has_changed(outcome.scans, file)]
    outdated = changed or (suspects if stops else [])
    if outdated or outcome.scans is not planned or _has_gone(dataset, outcome, missing):
        _save_plan(dataset, outcome, outdated)
    summary = RunSummary(
        run_id=job.run_id,
        version=job.version,
        output=request.output.uri,
        seconds=seconds,
        dataset=rows,
        run=_run_rows(outcome, after),
        counts=call_counts(outcome.counters),
        codes=dead_codes(outcome.counters),
        stop=stops[0] if stops else _nothing_readable(outcome.scans),
        throttled_s=outcome.counters.get(metrics.THROTTLED_MS, 0) / 1000,
        calls_sent=outcome.counters.get(metrics.CALLS_SENT, 0),
        calls_refused=outcome.counters.get(metrics.CALLS_REFUSED, 0),
        batch=batch_counts(outcome.counters),
        skipped_files=tuple(error.without_advice for error in outcome.scans.unreadable),
        vanished_files=tuple(sorted({file.name for file in missing})),
        prunes=request.prune,
        failed_files=() if outcome.mirror else failed_files(outcome.scans, after),
        passed_over=outcome.scans.ignored,
        changed_files=tuple(file.name for file in changed),
        limit_rows=request.input.limit_rows,
        sync=None if outcome.mirror is None else outcome.mirror.found.tally,
        cost=_life_cost(dataset, outcome),
    ).with_dead_letter_limit(request.dead_letters, retry=request.retry_failed)
    complete = rows.left == 0 and summary.stop is None and not changed
    if not complete:
        summary = dataclasses.replace(summary, kept_texts=kept_answers.count_kept(dataset))
    _check_owner(dataset, job)
    if complete and outcome.mirror is None:
        # Not before: each removal writes the groups again, while readers still see the old ones.
        after = _remove_outdated(
            dataset, job, after, replaced + missing if request.prune else replaced
        )
        if request.prune:
            summary = dataclasses.replace(summary, vanished_files=())
    if complete and outcome.mirror is not None:
        after = _remove_old_rows(dataset, job, outcome, after, rows)
        if job.run_number:
            goal = goal_of(job, outcome.mirror, plan)
            write_goal(dataset, dataclasses.replace(goal, records_digest=digest_of_records(after)))
    if (
        complete
        and job.run_number
        and withdraw_replaced(dataset, job.stamp, after, lambda: _check_owner(dataset, job))
    ):
        after = dataset.state()
    if plan.work:
        dataset.delete(dataset.gathered_files())
    is_clean = dataset.is_on_a_store and not after.stale and job.output.partition_by is None
    if complete and plan.work and not is_clean:
        # Workers that died leave files. A store shows no partial files, and listing it is slow. But
        # a unit that was tried again may have left the part of a partition that it now lacks.
        dataset.delete(dataset.leftovers(after))
    if plan.work or not has_success_marker(dataset):
        if complete:
            found = publish_state(dataset, _published(outcome), after)
            summary = dataclasses.replace(
                summary, changes=found.counts, duplicate_ids=found.repeated_ids
            )
        dataset.write_json(f"{SUMMARIES}/{job.run_id}.json", summary.to_json())
        if complete and outcome.scans.damaged:
            # `_SUCCESS` covers the rows of the saved plan, which must not include unreadable rows.
            save_scans(dataset, outcome.scans, request.input.columns)
        close(dataset, job, after, complete=complete)
    dataset.delete(dataset.kept_files() if complete else dataset.committed_kept_files(after))
    worker_notes.delete_stops(dataset)
    dataset.move_old_report()
    if request.input.skip_bad_files:
        worker_notes.delete_damaged_files(dataset)
    return summary


def _published(outcome: Outcome) -> PublishedRun:
    job = outcome.job
    kept = tuple(name for name in job.row_schema.names if name != "id")
    digest = job.embedding.digest if job.dedupe is Dedupe.RUN else ""
    return PublishedRun(
        job.run_id,
        job.run_number,
        kept,
        keep_superseded=outcome.request.keep_superseded,
        unique_ids=outcome.mirror is not None,
        index_digest=digest,
        keep_changes_days=outcome.request.keep_changes,
    )


def _has_gone(dataset: Dataset, outcome: Outcome, missing: Sequence[OldFile]) -> bool:
    """Return whether the saved plan has files that are missing now; `status` counts its rows.

    A run with work has saved its plan.
    """
    if outcome.plan.work or not missing:
        return False
    return not planned_files(dataset).keys() <= {file.key for file in outcome.scans.inputs}


def _life_cost(dataset: Dataset, outcome: Outcome) -> LifeCost | None:
    """Return the cost of this run and of all runs; None, with a warning, if it is not known."""
    job = outcome.job
    try:
        if outcome.plan.work:
            spending = settle_life_spending(dataset, job.run_number)
        else:
            spending = read_life_spending(dataset)
            spending = dataclasses.replace(spending, last_run=0, last_run_batch=0)
    except OutputError as error:
        log.warning("the cost of the dataset is not known: %s", error.message)
        return None
    tokens = billed_tokens(call_counts(outcome.counters), job.embedding.spec)
    has_media = job.embedding.media is not None
    return LifeCost.of(spending, outcome.request.price(), at_least=tokens, has_media=has_media)


def _nothing_readable(scans: Scans) -> Stop | None:
    """Return the reason to fail for a run that skipped all of its files; None for other runs."""
    error = unreadable_input_error(scans)
    return None if error is None else Stop(StopReason.BROKEN, error.message, time.time())


def _without_damaged(dataset: Dataset, outcome: Outcome) -> Outcome:
    """Return the outcome without files that workers found damaged and skipped."""
    scans = outcome.scans
    if outcome.request.input.skip_bad_files and outcome.plan.work:
        for note in worker_notes.read_damaged_files(dataset, outcome.job.run_id):
            if note.path in {file.found.path for file in scans.files}:
                scans = scans.without(note.path, InputError(note.message, path=note.path))
    return dataclasses.replace(outcome, scans=scans)


def _suspects(outcome: Outcome) -> list[InputFile]:
    """Return the files of this run that may have changed since they were scanned.

    Their rows may have been read from the old or the new content.
    """
    planned = {file.file.key for file in outcome.plan.work}
    stamps = outcome.scans.stamps
    return [
        file
        for file in outcome.scans.inputs
        if file.key in planned and not is_as_before(file, stamps.get(file.found.path))
    ]


def _has_changed(scans: Scans, file: InputFile) -> bool:
    return has_changed(file, scans.stamps.get(file.found.path))


def _save_plan(dataset: Dataset, outcome: Outcome, outdated: Sequence[InputFile]) -> None:
    """Save the plan without damaged files, whose rows `_SUCCESS` does not cover.

    The next run scans outdated files again, even if size and time are the same.
    """
    keys = {file.key for file in outdated}
    save_scans(dataset, outcome.scans, outcome.request.input.columns, keys)


def _check_owner(dataset: Dataset, job: JobConfig) -> None:
    """Raise OutputTaken if the run has taken the dataset and lost it to another run."""
    if job.run_number:
        run_file.check_ownership(dataset, job)


def dataset_rows(scans: Scans, state: DatasetState) -> RowCounts:
    """Count the rows of the input by the commit records of files that still exist.

    Of a damaged file, the rows committed before the damage was found count.
    """
    damaged = {file.input_file.key for file in scans.damaged}
    current = {file.key for file in scans.inputs} | damaged
    records = [record for record in state.records if record.unit.file_key in current]
    of_damaged = sum(one.unit.rows for one in records if one.unit.file_key in damaged)
    return count_rows(records, scans.rows + of_damaged, remaining_rows(scans.inputs, state))


def failed_files(scans: Scans, state: DatasetState) -> tuple[FailedFile, ...]:
    """Return the files with failed rows and no embedded one, by the commit records."""
    embedded: collections.Counter[str] = collections.Counter()
    dead: collections.Counter[str] = collections.Counter()
    for record in state.records:
        embedded[record.unit.file_key] += record.embedded
        dead[record.unit.file_key] += record.dead
    return tuple(
        FailedFile(file.name, dead[file.key])
        for file in scans.inputs
        if dead[file.key] and not embedded[file.key]
    )


def _run_rows(outcome: Outcome, after: DatasetState) -> RowCounts:
    """Count the rows that this run planned."""
    planned_rows = outcome.plan.planned_rows - _unreadable_rows(outcome, after)
    known = set(outcome.before.records)
    planned = {
        file.file.key: merge_ranges((unit.first_row, unit.rows) for unit in file.units)
        for file in outcome.plan.work
    }
    new = [  # A late commit of another run may have rows that were not planned.
        record
        for record in after.records
        if record not in known
        and is_within(
            record.unit.first_row, record.unit.rows, planned.get(record.unit.file_key, ())
        )
    ]
    if not outcome.request.retry_failed or outcome.mirror is not None:
        return count_rows(new, planned_rows)
    old = {record.unit: record for record in outcome.before.records}
    new = [record for record in new if record.unit in old]
    embedded = sum(record.embedded - old[record.unit].embedded for record in new)
    skipped = sum(record.skipped - old[record.unit].skipped for record in new)
    left = planned_rows - sum(old[record.unit].dead for record in new)
    dead = planned_rows - embedded - skipped - left
    return RowCounts(planned_rows, embedded, dead, skipped, left)


def _unreadable_rows(outcome: Outcome, after: DatasetState) -> int:
    """Return how many planned rows are behind the damage of damaged files."""
    damaged = {file.input_file.key for file in outcome.scans.damaged}
    work = [file for file in outcome.plan.work if file.file.key in damaged]
    planned_rows = Plan(tuple(work), 0, 0).planned_rows
    known = set(outcome.before.records)
    new = [r for r in after.records if r not in known and r.unit.file_key in damaged]
    if not outcome.request.retry_failed:
        return planned_rows - sum(record.unit.rows for record in new)
    old = {record.unit: record for record in outcome.before.records}
    return planned_rows - sum(old[record.unit].dead for record in new)


def outdated_files(
    dataset: Dataset, scans: Scans, state: DatasetState
) -> tuple[list[OldFile], list[OldFile]]:
    """Return the files of records that are no longer in the input: missing and replaced ones.

    A file is replaced if the input has other content under its name.
    """
    current = {file.key for file in scans.inputs}
    current |= {file.input_file.key for file in scans.damaged}
    names = {file.name for file in scans.inputs}
    old = [record for record in state.records if record.unit.file_key not in current]
    missing: list[OldFile] = []
    replaced: list[OldFile] = []
    by_file = itertools.groupby(old, key=lambda record: record.unit.file_key)
    groups = [tuple(group) for _, group in by_file]
    for first, records in zip(dataset.read_records([g[0] for g in groups]), groups, strict=True):
        file = OldFile(first.source_file, records)
        if file.name not in scans.bad_names:  # Such a file exists, but cannot be read.
            (replaced if file.name in names else missing).append(file)
    return missing, replaced


def _remove_outdated(
    dataset: Dataset, job: JobConfig, state: DatasetState, files: Sequence[OldFile]
) -> DatasetState:
    """Remove the rows of files that are no longer in the input; return the remaining state."""
    records = {record for file in files for record in file.records}
    if not records:
        return state
    withdraw_units(
        dataset,
        job.stamp,
        state,
        sorted(records, key=lambda record: record.unit),
        lambda: _check_owner(dataset, job),
    )
    if any(record.place is not None for record in records):
        return dataset.state()  # Their groups were written again.
    return state.without(records)


def _remove_old_rows(
    dataset: Dataset, job: JobConfig, outcome: Outcome, state: DatasetState, rows: RowCounts
) -> DatasetState:
    """Remove the rows that a synchronised dataset should no longer have; return its state.

    Raises:
        OutputError: the dataset does not have the rows of the input.
    """
    mirror = outcome.mirror
    if mirror is not None and len(mirror.found.remove):
        remove_rows(dataset, job, outcome.request, mirror)
        state = dataset.state()
    found = count_rows(state.records, sum(record.unit.rows for record in state.records))
    if (found.embedded, found.dead, found.skipped) != (rows.embedded, rows.dead, rows.skipped):
        raise OutputError(
            f"{dataset.root} should have {rows_line(rows)}, but has {rows_line(found)}. Rerun the "
            "same command. If this error remains, please report it as a bug."
        )
    delete_other_shards(dataset)
    return state


def _check_sizes(dataset: Dataset, outcome: Outcome, state: DatasetState) -> None:
    """Raise OutputError unless the parts have the size that was committed."""
    current = {file.key for file in outcome.scans.inputs}
    damaged = [
        record
        for record in dataset.damaged_records(state)
        if outcome.mirror or record.unit.file_key in current
    ]
    if damaged:
        rows = sum(record.unit.rows for record in damaged)
        name = dataset.parts_of(damaged[0]).all[0]
        raise OutputError(
            f"{dataset.root}: parts of {number_of(rows, 'row')} are missing or have another size "
            f"than was committed, such as {name}. Rerun the same command to embed these rows again."
        )


def close(dataset: Dataset, job: JobConfig, state: DatasetState, *, complete: bool) -> None:
    """Write a part with the schema if there are no vectors, and `_SUCCESS` last."""
    embedded = any(record.embedded for record in state.records)
    if embedded:
        dataset.delete([f"{VECTORS}/{EMPTY_PART}"])
    dim = job.embedding.out_dim
    if complete and not embedded and dim is not None:
        metadata = part_metadata(job.embedding, job.version, dim)
        schema = vectors_schema(
            job.row_schema, dim, job.output.vector_type, metadata,
            passages=job.embedding.rows_are_passages, id_name=job.columns.id_name,
            provenance=job.output.provenance, media=bool(job.columns.content),
            synced=job.sync,
        )  # fmt: skip
        dataset.write(f"{VECTORS}/{EMPTY_PART}", part_writer(schema.empty_table()))
    if complete:
        dataset.write(SUCCESS, b"")
        run_file.end_overwrite(dataset)


def has_success_marker(dataset: Dataset) -> bool:
    """Return whether `_SUCCESS` exists."""
    return atomic_files.read_bytes(dataset.filesystem, dataset.path(SUCCESS)) is not None
