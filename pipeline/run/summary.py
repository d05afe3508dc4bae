"""The summary of a run: its row counts, its exit code and its text."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Sequence
from typing import Any

from bulkembed.pipeline.run.life_cost import LifeCost
from bulkembed.pipeline.run.request import DeadLetterBudget
from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.messages import content_noun, number_of
from bulkembed.schemas.stop import RERUN, ExitCode, Stop, StopReason
from bulkembed.schemas.units import CallCounts, UnitRecord
from bulkembed.transforms.calls.metrics import DEAD_PREFIX
from bulkembed.transforms.core.row_difference import RowTally
from bulkembed.transforms.dataset.part_difference import ChangeCounts
from bulkembed.transforms.units.tally import too_many_failed

FORMAT_VERSION = 1
"""Version of the saved summary; incremented when a field changes its meaning."""


@dataclasses.dataclass(frozen=True, slots=True)
class RowCounts:
    """Counts of rows by state: rows_in == embedded + dead + skipped + left."""

    rows_in: int = 0
    embedded: int = 0
    dead: int = 0
    skipped: int = 0
    left: int = 0

    def check(self) -> None:
        """Raise OutputError unless every row is counted exactly once."""
        if self.rows_in != self.embedded + self.dead + self.skipped + self.left:
            raise OutputError(
                f"rows do not add up: {self.rows_in} in, {self.embedded} embedded, {self.skipped} "
                f"skipped, {self.dead} failed, {self.left} remaining. Please report this as a bug."
            )


@dataclasses.dataclass(frozen=True, slots=True)
class FailedFile:
    """A file with failed rows and no embedded one."""

    name: str
    rows: int
    """Failed rows; blank ones are not counted."""


@dataclasses.dataclass(frozen=True, slots=True)
class WrittenReport:
    """The report page that was written after a run, and what that took."""

    path: str
    seconds: float
    memory_bytes: int | None
    """The maximum memory in addition to that of the run; None if unknown."""
    has_texts: bool
    """Whether it shows excerpts of texts."""

    def line(self) -> str:
        """Return the path and what the report took."""
        memory = "" if self.memory_bytes is None else f", {self.memory_bytes / 1e6:,.0f} MB"
        texts = "" if self.has_texts else ", without texts"
        return f"{self.path} ({self.seconds:,.1f} s{memory}{texts})"


@dataclasses.dataclass(frozen=True, slots=True)
class BatchCounts:
    """What the batch jobs answered whose answers a run collected."""

    jobs: int
    texts: int
    tokens: int
    unused: int
    """Answers, of this and earlier runs, to texts that the input no longer has."""

    def line(self, noun: str = "text") -> str:
        """Return the counts in one line; `noun` is what was sent for a row."""
        answered = f"{number_of(self.texts, noun)}, {number_of(self.tokens, 'token')}"
        unused = f"; {self.unused:,} not used: the input no longer has their {noun}s"
        return f"{number_of(self.jobs, 'job')} answered {answered}{unused if self.unused else ''}"


BATCH_JOBS, BATCH_TEXTS, BATCH_TOKENS = "batch_jobs", "batch_texts", "batch_tokens"
BATCH_UNUSED = "batch_unused"
"""Counters of a run, from which its BatchCounts are made."""


@dataclasses.dataclass(frozen=True, slots=True)
class RunSummary:
    """The result of a run, printed and saved as `_run/summaries/<run_id>.json`."""

    run_id: str
    version: str
    output: str
    seconds: float
    dataset: RowCounts
    """All rows of the input, after this run."""
    run: RowCounts
    """The rows that this run planned; `left` are those that it did not reach."""
    counts: CallCounts
    codes: dict[str, int]
    stop: Stop | None = None
    throttled_s: float = 0.0
    calls_sent: int = 0
    calls_refused: int = 0
    """Requests that were rate-limited (429)."""
    batch: BatchCounts | None = None
    """None if the run collected no batch job, and dropped no answers."""
    skipped_files: tuple[str, ...] = ()
    vanished_files: tuple[str, ...] = ()
    """Missing files with committed rows."""
    prunes: bool = False
    """Whether the rows of these files are removed once the dataset is complete."""
    failed_files: tuple[FailedFile, ...] = ()
    changed_files: tuple[str, ...] = ()
    """Files that changed while they were read; their rows must be embedded again."""
    passed_over: tuple[str, ...] = ()
    """Files and folders next to the input that were ignored."""
    duplicate_ids: int | None = None
    """Rows with the id of an earlier row; None if ids were not compared."""
    limit_rows: int | None = None
    sync: RowTally | None = None
    """What a synchronisation found; None for other runs."""
    changes: ChangeCounts | None = None
    """Ids that were added, changed and deleted since the last complete state; None if none was, or
    if that is not known."""
    cost: LifeCost | None = None
    """The cost of this run and of all runs; None if the account is damaged."""
    kept_texts: int = 0
    """Texts whose paid answers are kept for the next run."""
    report: WrittenReport | None = None
    """The report, if one was written; the saved summary does not have it."""

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of the command."""
        if self.stop is not None:
            return self.stop.exit_code
        return ExitCode.INCOMPLETE if self.run.left or self.changed_files else ExitCode.COMPLETE

    def with_dead_letter_limit(self, budget: DeadLetterBudget, *, retry: bool) -> RunSummary:
        """Return the summary, stopped by dead letters if there are more than the budget allows.

        The limit holds for the run and for the dataset: otherwise a rerun with nothing to do would
        succeed. A retry is checked for the dataset only, because all of its rows had failed
        before.
        """
        checked = (self.dataset,) if retry else (self.run, self.dataset)
        message = self._too_many_dead(checked, budget)
        if message is None:
            return self
        stop = Stop(StopReason.DEAD_LETTERS, message, time.time())
        if self.stop is not None and self.stop.rank <= stop.rank:
            return self
        return dataclasses.replace(self, stop=stop)

    def _too_many_dead(self, checked: Iterable[RowCounts], budget: DeadLetterBudget) -> str | None:
        for rows in checked:
            if rows.dead > budget.allowed(rows.rows_in):
                return too_many_failed(rows.dead, budget.allowed(rows.rows_in))
        cure = "See dead_letters/ and fix the input or the flags"
        if self.dataset.dead and not self.dataset.embedded:
            return f"no row was embedded and {number_of(self.dataset.dead, 'row')} failed. {cure}."
        failed = sum(file.rows for file in self.failed_files)
        if failed <= budget.allowed_in_failed_files(self.dataset.rows_in):
            return None
        worst = max(self.failed_files, key=lambda file: file.rows)
        others = len(self.failed_files) - 1
        return (
            f"{worst.name}: no row was embedded and {number_of(worst.rows, 'row')} failed"
            + (f", and likewise in {number_of(others, 'other file')}" if others else "")
            + f". {cure}, or allow these failures with --max-dead-letters."
        )

    @property
    def has_media(self) -> bool:
        """Whether the rows have media; False if the account of the cost is damaged."""
        return self.cost is not None and self.cost.has_media

    @property
    def content_noun(self) -> str:
        """What is sent for a row, in messages."""
        return content_noun(has_media=self.has_media)

    def to_json(self) -> dict[str, Any]:
        """Return plain values, with the exit code."""
        return {
            "format_version": FORMAT_VERSION,
            **dataclasses.asdict(self),
            "exit_code": int(self.exit_code),
        }


def count_rows(
    records: Sequence[UnitRecord], rows_in: int, remaining: int | None = None
) -> RowCounts:
    """Count the rows of commit records; removed rows count nowhere.

    Args:
        records: of distinct rows.
        rows_in: rows of the input, or of the run.
        remaining: rows without a record; None for all that the records do not count.
    """
    embedded = sum(record.embedded for record in records)
    dead = sum(record.dead for record in records)
    skipped = sum(record.skipped for record in records)
    rows_in -= sum(record.removed for record in records)
    if remaining is None:
        remaining = rows_in - embedded - dead - skipped
    return RowCounts(rows_in, embedded, dead, skipped, remaining)


def call_counts(counters: dict[str, int]) -> CallCounts:
    """Return the totals of a run's requests from its counters."""
    names = {field.name for field in dataclasses.fields(CallCounts)}
    return CallCounts(**{name: value for name, value in counters.items() if name in names})


def batch_counts(counters: dict[str, int]) -> BatchCounts | None:
    """Return what batch jobs answered from a run's counters; None if there is nothing to say."""
    names = (BATCH_JOBS, BATCH_TEXTS, BATCH_TOKENS, BATCH_UNUSED)
    counts = BatchCounts(*(counters.get(name, 0) for name in names))
    return counts if counts.jobs or counts.unused else None


def dead_codes(counters: dict[str, int]) -> dict[str, int]:
    """Return the number of dead letters by code from a run's counters."""
    return {
        name.removeprefix(DEAD_PREFIX): value
        for name, value in sorted(counters.items())
        if name.startswith(DEAD_PREFIX)
    }


def summary_lines(summary: RunSummary) -> Iterable[tuple[str, str]]:
    """Yield the lines of the printed summary, each as a label and a text."""
    run = summary.run
    yield "rows", rows_line(run)
    if run.dead:
        failed = {c: n for c, n in summary.codes.items() if not DeadCode(c).is_skip}
        yield "dead letters", ", ".join(f"{n:,} {code}" for code, n in failed.items())
    yield "requests", _requests_line(summary)
    if summary.batch is not None:
        yield "batch", summary.batch.line(summary.content_noun)
    if summary.cost is not None:
        yield from cost_lines(summary.cost, "this run", summary.kept_texts)
    yield "time", _time_line(summary)
    if summary.sync is not None:
        yield "sync", difference_line(summary.sync, done=summary.exit_code is ExitCode.COMPLETE)
    if summary.dataset != run:
        yield "dataset", rows_line(summary.dataset)
    if summary.changes is not None and summary.changes.added < summary.dataset.embedded:
        yield "changes", changes_line(summary.changes)
    if summary.duplicate_ids:
        yield (
            "duplicate ids",
            f"{number_of(summary.duplicate_ids, 'row')} with the id of an earlier row",
        )
    for name in summary.skipped_files:
        yield "file skipped", name
    for name in summary.changed_files:
        yield "file changed", f"{name}: changed while it was read. {RERUN}"
    if summary.passed_over:
        yield "ignored", join_names(summary.passed_over)
    for file in summary.failed_files:
        yield "file failed", f"{file.name}: {number_of(file.rows, 'row')} failed, none embedded"
    if not summary.dataset.embedded and not summary.dataset.left:
        yield "no vectors", _why_no_vectors(summary)
    for name in summary.vanished_files:
        what = "removed when all rows of the input are committed" if summary.prunes else "kept"
        yield "file missing", f"{name}: its rows are {what}"
    if summary.limit_rows is not None and summary.dataset.left:
        left = number_of(summary.dataset.left, "row")
        yield (
            "limit",
            f"--limit-rows {summary.limit_rows}: {left} remaining. Rerun without the flag to "
            "embed the rest.",
        )
    yield "output", summary.output
    if summary.dataset.dead and summary.stop is None:
        yield "next", _next_for_dead(summary.codes)


def cost_lines(cost: LifeCost, run: str, kept_texts: int) -> Iterable[tuple[str, str]]:
    """Yield what the dataset has cost, and what was paid and is not committed.

    Args:
        cost: the cost of one run and of all runs.
        run: what to call the one run.
        kept_texts: texts whose paid answers are kept for the next run.
    """
    yield "cost", cost.line(run)
    if cost.unconfirmed_tokens:
        yield "unconfirmed", cost.unconfirmed_line()
    if kept_texts:
        yield (
            "uncommitted",
            f"{number_of(kept_texts, 'paid answer')} not committed yet; the next run uses "
            + ("it" if kept_texts == 1 else "them"),
        )


def _next_for_dead(codes: dict[str, int]) -> str:
    """Return what to do about dead letters, by the codes of this run."""
    failed = [DeadCode(code) for code in codes if not DeadCode(code).is_skip]
    if not failed:
        return "see dead_letters/. --retry-failed resends rejected rows."
    if any(code.may_pass_again for code in failed):
        return "see dead_letters/. --retry-failed resends these rows."
    return "see dead_letters/ and fix the input. The next run embeds changed files again."


def join_names(names: Sequence[str], limit: int = 8) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def empty_result_warning(summary: RunSummary) -> str | None:
    """Return the warning for a complete run without any vector; None for other runs."""
    rows = summary.dataset
    if rows.embedded or rows.left or rows.dead:
        return None
    return f"nothing was embedded: {_why_no_vectors(summary)}"


def _why_no_vectors(summary: RunSummary) -> str:
    rows = summary.dataset
    if not rows.rows_in:
        return "the input has no rows"
    if rows.dead:
        others = ", and the others are blank" if rows.dead < rows.rows_in else ""
        return f"{rows.dead:,} of {number_of(rows.rows_in, 'row')} failed{others}"
    if summary.has_media:
        return f"every part of --content is null or empty in all {number_of(rows.rows_in, 'row')}"
    return (
        f"all {number_of(rows.rows_in, 'text')} are null, empty or white space. If the text is in "
        "another column, name it with --text-column."
    )


def _requests_line(summary: RunSummary) -> str:
    counts, noun = summary.counts, summary.content_noun
    limited = f" ({summary.calls_refused:,} rate-limited)" if summary.calls_refused else ""
    # A text that is sent up front lowers the count until the rows that repeat it are embedded.
    repeated = max(0, counts.repeated)
    return (
        f"{summary.calls_sent or counts.calls:,}{limited} with {number_of(counts.texts, noun)}, "
        f"{tokens_line(counts)}"
        + (f"; {number_of(repeated, f'duplicate {noun}')} not sent" if repeated else "")
        + (f"; {number_of(counts.reused, noun)} with a known vector" if counts.reused else "")
    )


def tokens_line(counts: CallCounts) -> str:
    """Return the tokens of some requests, and how many of them are of media."""
    media = {
        "images": counts.image_tokens,
        "audio": counts.audio_tokens,
        "video": counts.video_tokens,
    }
    of_media = ", ".join(f"{tokens:,} of {name}" for name, tokens in media.items() if tokens)
    return number_of(counts.tokens, "token") + (f" ({of_media})" if of_media else "")


def changes_line(changes: ChangeCounts) -> str:
    """Return the number of ids by change in one line."""
    return f"{changes.added:,} added, {changes.changed:,} changed, {changes.deleted:,} deleted"


def rows_line(rows: RowCounts) -> str:
    """Return the counts in one line."""
    line = f"{rows.rows_in:,} in: {rows.embedded:,} embedded, {rows.skipped:,} skipped (blank), "
    return line + f"{rows.dead:,} failed, {rows.left:,} remaining"


def difference_line(tally: RowTally, *, done: bool) -> str:
    """Return the difference that a synchronisation found in one line; `done` if it is applied."""
    changed = tally.content + tally.columns
    only = f" ({tally.columns:,} only in kept columns)" if tally.columns else ""
    retried = f", {tally.retried:,} failed before" if tally.retried else ""
    repeated = f", {tally.repeated:,} with a repeated id left out" if tally.repeated else ""
    return (
        f"{tally.unchanged:,} unchanged, {tally.new:,} new, {changed:,} changed{only}{retried}, "
        f"{tally.gone:,} {'deleted' if done else 'to delete'}{repeated}"
    )


def _time_line(summary: RunSummary) -> str:
    rate = summary.run.embedded / summary.seconds if summary.seconds > 0 else 0.0
    line = f"{summary.seconds:,.1f} s"
    if summary.run.embedded:
        line += f", {rate:,.1f} rows/s" if rate < 10 else f", {rate:,.0f} rows/s"
    if summary.throttled_s >= 1:
        line += f"; {summary.throttled_s:,.0f} s of it spent waiting for quota"
    return line
