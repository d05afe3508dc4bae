"""The batch jobs of a dataset as its report shows them."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
from collections.abc import Sequence

from bulkembed.pipeline.estimate.result import duration
from bulkembed.schemas.ledger_entry import BatchJob, LedgerState
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.prices import Price

MAX_JOBS = 50
MAX_REASONS = 5
_OPEN = (LedgerState.PLANNED, LedgerState.UPLOADED, LedgerState.CREATED)


@dataclasses.dataclass(frozen=True, slots=True)
class ReportedJob:
    """A batch job as a row of a table."""

    name: str
    """Its display name at the service."""
    state: LedgerState
    created: str
    """UTC; when it was planned, if it was not created; empty if that is lost."""
    took: str
    """How long it was open, until its answers were collected or until now."""
    texts: int
    answered: int
    rejected: int
    """Texts whose rows become dead letters."""
    unanswered: int
    """Texts that go into another job."""
    tokens: int
    """As the service counted them, or at most if that is lost; estimated for an open job. Tokens
    of media count as the tokens of text that cost the same."""
    usd: float | None
    """What its answers cost, or may cost; None if the price is not known."""
    reason: str
    """Why texts got no answer, in the service's words."""

    @property
    def is_open(self) -> bool:
        """Whether its answers may still come."""
        return self.state in _OPEN

    @classmethod
    def of(cls, entry: BatchJob, price: Price | None, now: float) -> ReportedJob:
        """Return the row of an entry of the ledger; `now` is in epoch seconds."""
        begun = entry.created_at or entry.planned_at
        tokens = entry.billed_tokens if entry.state in _OPEN else entry.paid_tokens
        return cls(
            name=entry.display_name,
            state=entry.state,
            created=_moment(begun),
            took=duration(max(0.0, (entry.ended_at or now) - begun)) if begun else "",
            texts=entry.rows,
            answered=entry.counts.texts,
            rejected=entry.failed,
            unanswered=entry.missing,
            tokens=tokens,
            usd=None if price is None else price.batch_usd(tokens),
            reason=entry.reason,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class ReportedJobs:
    """All batch jobs of a dataset, since it was made or overwritten."""

    rows: tuple[ReportedJob, ...]
    """The last ones, the newest first."""
    jobs: int
    open: int
    answered: int
    """Texts."""
    tokens: int
    """What the answers cost."""
    usd: float | None
    online_usd: float | None
    """What online requests would have cost."""
    reasons: tuple[tuple[str, int, int], ...]
    """Why texts got no answer, with the numbers of jobs and of texts; the most texts first."""

    @classmethod
    def of(
        cls, entries: Sequence[BatchJob], price: Price | None, now: float
    ) -> ReportedJobs | None:
        """Return the jobs of a ledger; None if it has none.

        Args:
            entries: in the order of their planning.
            price: of a token; None if it is not known.
            now: in epoch seconds.
        """
        if not entries:
            return None
        tokens = sum(entry.paid_tokens for entry in entries)
        return cls(
            rows=tuple(
                ReportedJob.of(entry, price, now) for entry in entries[: -MAX_JOBS - 1 : -1]
            ),
            jobs=len(entries),
            open=sum(entry.state in _OPEN for entry in entries),
            answered=sum(entry.counts.texts for entry in entries),
            tokens=tokens,
            usd=None if price is None else price.batch_usd(tokens),
            online_usd=None if price is None else price.usd(tokens),
            reasons=_reasons(entries),
        )

    def line(self, noun: str = "text") -> str:
        """Return a summary in one paragraph; `noun` is what was sent for a row."""
        jobs = f"{number_of(self.jobs, 'job')}, {self.open:,} of them open"
        cost = f"{number_of(self.answered, noun)} answered for {number_of(self.tokens, 'token')}"
        if self.usd is not None and self.online_usd is not None:
            cost += (
                f", {self.usd:,.4f} USD. Online requests would have cost {self.online_usd:,.4f} USD"
            )
        shown = f" The table has the last {len(self.rows)}." if len(self.rows) < self.jobs else ""
        return f"{jobs}. {cost}.{shown}"


def _moment(at: float) -> str:
    """Return a time in epoch seconds; empty for 0."""
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d %H:%M") if at else ""


def _reasons(entries: Sequence[BatchJob]) -> tuple[tuple[str, int, int], ...]:
    jobs, texts = collections.Counter[str](), collections.Counter[str]()
    for entry in entries:
        if entry.missing:
            reason = entry.reason or "no answer"
            jobs[reason] += 1
            texts[reason] += entry.missing
    return tuple((reason, jobs[reason], count) for reason, count in texts.most_common(MAX_REASONS))
