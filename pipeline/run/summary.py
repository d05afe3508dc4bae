"""What a run came to: the numbers, whether they add up, and the lines to show."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Sequence
from typing import Any

from bulkembed.pipeline.run.request import DeadLetterBudget
from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.stop import ExitCode, Stop, StopReason
from bulkembed.schemas.units import CallCounts, UnitRecord
from bulkembed.transforms.calls.metrics import DEAD_PREFIX
from bulkembed.transforms.units.tally import too_many_failed

FORMAT_VERSION = 1
"""Of the saved summary; goes up when a field changes its meaning."""


@dataclasses.dataclass(frozen=True, slots=True)
class RowCounts:
    """Where rows are: rows_in == embedded + dead + skipped + left."""

    rows_in: int = 0
    embedded: int = 0
    dead: int = 0
    skipped: int = 0
    left: int = 0

    def check(self) -> None:
        """Raises OutputError unless every row is in exactly one place."""
        if self.rows_in != self.embedded + self.dead + self.skipped + self.left:
            raise OutputError(
                f"rows do not add up: {self.rows_in} in, {self.embedded} embedded, {self.dead} "
                f"dead, {self.skipped} skipped, {self.left} left; please report this"
            )


@dataclasses.dataclass(frozen=True, slots=True)
class FailedFile:
    """A file of which rows failed and none was embedded."""

    name: str
    rows: int
    """Rows that failed; blank ones are not counted."""


@dataclasses.dataclass(frozen=True, slots=True)
class RunSummary:
    """One run, as it is shown and saved as `_run/summaries/<run_id>.json`."""

    run_id: str
    version: str
    output: str
    seconds: float
    dataset: RowCounts
    """All rows of the input, after this run."""
    run: RowCounts
    """The rows that this run set out to do; `left` are those it did not get to."""
    counts: CallCounts
    codes: dict[str, int]
    stop: Stop | None = None
    throttled_s: float = 0.0
    calls_sent: int = 0
    calls_refused: int = 0
    """429s."""
    skipped_files: tuple[str, ...] = ()
    vanished_files: tuple[str, ...] = ()
    failed_files: tuple[FailedFile, ...] = ()
    changed_files: tuple[str, ...] = ()
    """Files that were rewritten while they were read; their rows have to be embedded again."""
    passed_over: tuple[str, ...] = ()
    """Files and folders beside the input that were not taken."""
    duplicate_ids: int | None = None
    """Rows with the id of an earlier row; None where that was not looked at."""
    limit_rows: int | None = None

    @property
    def exit_code(self) -> ExitCode:
        """What a scheduler is told."""
        if self.stop is not None:
            return self.stop.exit_code
        return ExitCode.INCOMPLETE if self.run.left or self.changed_files else ExitCode.COMPLETE

    def with_dead_letter_limit(self, budget: DeadLetterBudget, *, retry: bool) -> RunSummary:
        """Return the same, ended by dead letters where there are more than the budget allows.

        The run is judged, and the dataset: else the same command again, with nothing left to do,
        would look green.  A retry is judged by the dataset alone: it fails no row that had not
        failed before.
        """
        judged = (self.dataset,) if retry else (self.run, self.dataset)
        message = self._too_many_dead(judged, budget)
        if message is None:
            return self
        stop = Stop(StopReason.DEAD_LETTERS, message, time.time())
        if self.stop is not None and self.stop.rank <= stop.rank:
            return self
        return dataclasses.replace(self, stop=stop)

    def _too_many_dead(self, judged: Iterable[RowCounts], budget: DeadLetterBudget) -> str | None:
        for rows in judged:
            if rows.dead > budget.allowed(rows.rows_in):
                return too_many_failed(rows.dead, budget.allowed(rows.rows_in))
        look = "look at dead_letters/ and correct the input or the flags"
        if self.dataset.dead and not self.dataset.embedded:
            return f"no row was embedded, and {self.dataset.dead:,} rows failed; {look}"
        failed = sum(file.rows for file in self.failed_files)
        if failed <= budget.allowed_in_failed_files(self.dataset.rows_in):
            return None
        worst = max(self.failed_files, key=lambda file: file.rows)
        others = len(self.failed_files) - 1
        return (
            f"{worst.name}: no row was embedded, and {worst.rows:,} rows failed"
            + (f"; the same in {others:,} other files" if others else "")
            + f"; {look}, or allow that many rows with --max-dead-letters"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the exit code."""
        return {
            "format_version": FORMAT_VERSION,
            **dataclasses.asdict(self),
            "exit_code": int(self.exit_code),
        }


def run_rows(due: int, records: Iterable[UnitRecord]) -> RowCounts:
    """Where the rows of a run are, by the records that it committed."""
    records = list(records)
    embedded = sum(record.embedded for record in records)
    dead = sum(record.dead for record in records)
    skipped = sum(record.skipped for record in records)
    return RowCounts(due, embedded, dead, skipped, due - embedded - dead - skipped)


def call_counts(counters: dict[str, int]) -> CallCounts:
    """What the calls of a run came to, from its counters."""
    names = {field.name for field in dataclasses.fields(CallCounts)}
    return CallCounts(**{name: value for name, value in counters.items() if name in names})


def dead_codes(counters: dict[str, int]) -> dict[str, int]:
    """Dead letters by their code, from a run's counters."""
    return {
        name.removeprefix(DEAD_PREFIX): value
        for name, value in sorted(counters.items())
        if name.startswith(DEAD_PREFIX)
    }


def summary_lines(summary: RunSummary) -> Iterable[tuple[str, str]]:
    """The summary for people, a name and a text a line."""
    run, counts = summary.run, summary.counts
    yield "rows", rows_line(run)
    if run.dead:
        failed = {c: n for c, n in summary.codes.items() if not DeadCode(c).is_skip}
        yield "dead letters", ", ".join(f"{n:,} {code}" for code, n in failed.items())
    # Texts sent ahead count against repeats until the rows that share them are there.
    repeated = max(0, counts.repeated)
    yield (
        "calls",
        f"{summary.calls_sent or counts.calls:,}{_refused(summary)} with {counts.texts:,} texts, "
        f"{counts.tokens:,} tokens"
        + (f"; {repeated:,} repeated texts not sent" if repeated else ""),
    )
    yield "time", _time_line(summary)
    if summary.dataset != run:
        yield "dataset", rows_line(summary.dataset)
    if summary.duplicate_ids:
        yield "duplicate ids", f"{summary.duplicate_ids:,} rows have the id of an earlier row"
    for name in summary.skipped_files:
        yield "file skipped", name
    for name in summary.changed_files:
        yield "file changed", f"{name}: rewritten while it was read; run the same command again"
    if summary.passed_over:
        yield "passed over", join_names(summary.passed_over)
    for file in summary.failed_files:
        yield "file failed", f"{file.name}: {file.rows:,} rows failed, and none was embedded"
    if not summary.dataset.embedded and not summary.dataset.left:
        yield "nothing embedded", _why_nothing(summary.dataset)
    for name in summary.vanished_files:
        yield "file gone", f"{name}: its rows are kept"
    if summary.limit_rows is not None and summary.dataset.left:
        left = f"{summary.dataset.left:,} rows are left"
        yield (
            "limit",
            f"--limit-rows {summary.limit_rows}: {left}; run it without the flag for them",
        )
    yield "output", summary.output
    if summary.dataset.dead and summary.stop is None:
        yield "next", _next_for_dead(summary.codes)


def _next_for_dead(codes: dict[str, int]) -> str:
    """What to do about dead letters, by the codes of this run."""
    failed = [DeadCode(code) for code in codes if not DeadCode(code).is_skip]
    if not failed:
        return "look at dead_letters/; --retry-failed sends refused rows again"
    if any(code.may_pass_again for code in failed):
        return "look at dead_letters/; --retry-failed sends these rows again"
    return "look at dead_letters/ and correct the input; the next run reads changed files again"


def join_names(names: Sequence[str], most: int = 8) -> str:
    """Return some names, and how many others there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def empty_result_warning(summary: RunSummary) -> str | None:
    """Return the warning for a complete run without one vector; None for another run."""
    rows = summary.dataset
    if rows.embedded or rows.left or rows.dead:
        return None
    return f"nothing was embedded: {_why_nothing(rows)}"


def _why_nothing(rows: RowCounts) -> str:
    if not rows.rows_in:
        return "the input has no rows"
    if rows.dead:
        others = ", and the others are blank" if rows.dead < rows.rows_in else ""
        return f"{rows.dead:,} of {rows.rows_in:,} rows failed{others}"
    return (
        f"the text of all {rows.rows_in:,} rows is null, empty or white space; is it in another "
        "column (--text-column)?"
    )


def _refused(summary: RunSummary) -> str:
    return f" ({summary.calls_refused:,} refused by the quota)" if summary.calls_refused else ""


def rows_line(rows: RowCounts) -> str:
    """Where rows are, in one line."""
    line = f"{rows.rows_in:,} in: {rows.embedded:,} embedded, {rows.skipped:,} skipped (blank), "
    return line + f"{rows.dead:,} dead, {rows.left:,} left"


def _time_line(summary: RunSummary) -> str:
    rate = summary.run.embedded / summary.seconds if summary.seconds > 0 else 0.0
    line = f"{summary.seconds:,.1f} s"
    if summary.run.embedded:
        line += f", {rate:,.0f} rows a second"
    if summary.throttled_s >= 1:
        line += f"; {summary.throttled_s:,.0f} s of it waiting for quota"
    return line
