"""The status of a dataset by its commit records, also during a run; does not import Beam."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable
from typing import Any

from bulkembed.pipeline.run.life_cost import (
    LifeCost,
    LifeSpending,
    billed_tokens,
    pinned_price,
    read_life_spending,
)
from bulkembed.pipeline.run.refusal import Refusal, read_refusal
from bulkembed.pipeline.run.scans import planned_files
from bulkembed.pipeline.run.summary import (
    RowCounts,
    changes_line,
    cost_lines,
    count_rows,
    difference_line,
    rows_line,
    tokens_line,
)
from bulkembed.pipeline.sync.sync_file import read_goal, synced_rows
from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.ledger_entry import LedgerState
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.models import find_model
from bulkembed.schemas.stop import RERUN
from bulkembed.schemas.units import CallCounts, UnitRecord
from bulkembed.transforms.core.row_difference import RowTally
from bulkembed.transforms.core.spending_lease import Spent
from bulkembed.transforms.dataset import kept_answers, output_lock, run_file, worker_notes
from bulkembed.transforms.dataset.batch_ledger import BatchLedger
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import SUCCESS
from bulkembed.transforms.dataset.manifest import RunChanges
from bulkembed.transforms.dataset.part_difference import ChangeCounts


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """The state of a dataset; `rows` counts those of the files of the last plan."""

    output: str
    model: str
    rows: RowCounts
    kept: RowCounts
    """Rows of other files: missing ones, and until the dataset is complete, changed ones."""
    vectors: int
    """Rows of `vectors/`: more than embedded input rows if they are passages."""
    codes: dict[str, int]
    counts: CallCounts
    """The requests for the rows that are committed now."""
    cost: LifeCost
    """The cost of all runs, also for rows that have been removed, replaced or lost."""
    kept_texts: int
    """Texts whose paid answers are kept for the next run."""
    complete: bool
    runner: str | None
    """The run that is writing it now."""
    changes: RunChanges | None = None
    """How many ids the last run that changed rows added, changed and deleted."""
    open_batch_jobs: int = 0
    """Batch jobs whose answers are not collected yet."""
    open_batch_texts: int = 0
    sync: RowTally | None = None
    """What the last synchronisation found that changed the dataset."""
    refused: Refusal | None = None
    """Why the last run refused to start."""
    warning: str | None = None
    """A problem of the texts that were embedded."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self)


def read_status(output: str) -> Status:
    """Read the status of the dataset at a path or URI.

    Raises:
        ConfigError: there is no dataset.
    """
    dataset = Dataset.open(output)
    pinned = run_file.read(dataset)
    records = dataset.read_records(dataset.state().records)
    return status_of(output, dataset, pinned, records, BatchLedger(dataset))


def status_of(
    output: str,
    dataset: Dataset,
    pinned: dict[str, Any],
    records: list[UnitRecord],
    ledger: BatchLedger,
) -> Status:
    """Return the status of a dataset from the content of `run.json`, its records and its jobs."""
    planned = planned_files(dataset)
    current = [record for record in records if record.unit.file_key in planned]
    rows_in = sum(file.rows for file in planned.values())
    owner = output_lock.current_owner(dataset)
    complete = SUCCESS in dataset.names("")
    goal, kept = None, RowCounts()
    if run_file.is_synced(pinned):
        current, goal = records, read_goal(dataset)
        rows = synced_rows(dataset, records, complete=complete)
    else:
        left = rows_in - sum(record.unit.rows for record in current)
        rows = count_rows(current, rows_in, left)
        others = [record for record in records if record.unit.file_key not in planned]
        kept = count_rows(others, sum(record.unit.rows for record in others))
    # Rows that a synchronisation has replaced, but not removed yet.
    old = sum(record.embedded for record in records) - rows.embedded - kept.embedded
    counts = sum((record.counts for record in records), worker_notes.total_shared_counts(dataset))
    warning = run_file.template_warning(pinned)
    try:
        spending = read_life_spending(dataset, ledger)
    except OutputError as error:
        spending, warning = LifeSpending(Spent(), None), error.message
    jobs = ledger.of_state(LedgerState.UPLOADED, LedgerState.CREATED)
    return Status(
        output=output,
        model=pinned["embedding"]["model"],
        rows=rows,
        kept=kept,
        vectors=sum(record.vectors for record in records) - old,
        codes=_codes(current),
        counts=counts,
        cost=LifeCost.of(
            spending,
            pinned_price(pinned),
            at_least=billed_tokens(counts, find_model(pinned["embedding"]["model"])),
            has_media="media" in pinned["embedding"],
        ),
        kept_texts=0 if complete else kept_answers.count_kept(dataset),
        complete=complete,
        runner=f"run {owner.run_id}, process {owner.process.pid} on {owner.host}"
        if owner
        else None,
        open_batch_jobs=len(jobs),
        open_batch_texts=sum(job.rows for job in jobs),
        changes=_last_changes(dataset),
        sync=None if goal is None else goal.tally,
        refused=read_refusal(dataset),
        warning=warning,
    )


def _last_changes(dataset: Dataset) -> RunChanges | None:
    """Return the last changes; None if there is only the state that was written first."""
    manifest = dataset.manifest()
    if manifest is None or not manifest.changes:
        return None
    is_first = len(manifest.changes) == 1 and not manifest.origin.run_id
    return None if is_first else manifest.changes[-1]


def status_lines(status: Status) -> Iterable[tuple[str, str]]:
    """Yield the lines of the printed status, each as a label and a text."""
    yield "dataset", f"{status.output}, {status.model}"
    yield "state", "complete" if status.complete else f"incomplete. {RERUN}"
    if status.refused is not None:
        at = status.refused.at.replace("T", " ").replace("+00:00", " UTC")
        yield "refused", f"{at}, {status.refused.line()}"
    if status.warning:
        yield "warning", status.warning
    if status.runner:
        yield "running", status.runner
    yield "rows", rows_line(status.rows)
    if status.kept.rows_in:
        yield "kept", _kept_line(status)
    if status.sync is not None:
        yield "last sync", difference_line(status.sync, done=status.complete)
    if status.changes is not None:
        last = status.changes
        counts = ChangeCounts(last.added, last.changed, last.deleted)
        yield "last changes", f"{changes_line(counts)} (run {last.run_id})"
    if status.vectors != status.rows.embedded + status.kept.embedded:
        yield "passages", f"{status.vectors:,}"
    for code, rows in status.codes.items():
        yield f"  {code}", f"{rows:,}"
    calls, noun = status.counts, status.cost.content_noun
    yield (
        "requests",
        f"{calls.calls:,} with {number_of(calls.texts, noun)}, "
        f"{tokens_line(calls)} for the committed rows",
    )
    if status.open_batch_jobs:
        yield (
            "batch",
            f"{number_of(status.open_batch_jobs, 'open job')} with "
            f"{number_of(status.open_batch_texts, noun)}. `bulkembed batches` lists them",
        )
    yield from cost_lines(status.cost, "the last run that sent requests", status.kept_texts)


def _kept_line(status: Status) -> str:
    kept, rows = status.kept, status.rows
    files = "missing input files" if status.complete else "missing or changed input files"
    return (
        f"{number_of(kept.rows_in, 'row')} of {files}: {kept.embedded:,} embedded, "
        f"{kept.skipped:,} skipped (blank), {kept.dead:,} failed; "
        f"{number_of(rows.rows_in - rows.left + kept.rows_in, 'row')} in all"
    )


def _codes(records: list[UnitRecord]) -> dict[str, int]:
    total: collections.Counter[str] = collections.Counter()
    for record in records:
        total.update({str(code): rows for code, rows in record.codes})
    return dict(sorted(total.items()))
