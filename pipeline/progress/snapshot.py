"""A run at one moment: where its rows are, its speed, its cost and its ETA."""

from __future__ import annotations

import collections
import dataclasses
import math

from bulkembed.pipeline.run.summary import RowCounts
from bulkembed.schemas.live import Live, LiveCounts, QuotaUse, Waiting
from bulkembed.schemas.prices import Price
from bulkembed.schemas.quota import QuotaKind
from bulkembed.transforms.dataset.records import DatasetState

RATE_WINDOW_S = 60.0
MINUTE_S = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Goal:
    """What a run set out to do."""

    rows: RowCounts
    """Where the rows are at the start; `left` are those that this run is to process."""
    before: DatasetState = dataclasses.field(default_factory=DatasetState)
    """What was committed at the start."""
    shared: int = 0
    """Texts that occur in several units; they are sent first."""
    price: Price | None = None
    """None if unknown."""
    texts_per_request: int = 1
    """How many texts the service counts as one request."""


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """All that is displayed; None stands for a value that is not known."""

    elapsed_s: float
    rows: RowCounts
    """Committed rows, and remaining ones; rows that are `ready` are in none of its counts."""
    ready: int
    """Rows with a result, in units that are not committed yet."""
    shared: int
    shared_total: int
    rows_per_s: float
    texts_per_s: float
    in_flight: int | None
    quota: QuotaUse | None
    texts: int
    tokens: int
    tokens_total: int | None
    """Estimated for the whole run."""
    usd: float | None
    usd_total: float | None
    waiting: Waiting | None
    eta_s: float | None
    sent: int
    retried: int
    rate_limited: int
    codes: dict[str, int]
    """Dead letters of this run by code."""
    ending: str | None = None
    """Why the run is about to end."""

    @property
    def done(self) -> int:
        """Rows with a result, committed or not."""
        return self.rows.rows_in - self.rows.left


class Rates:
    """The speed over the last minute, from counts that are added now and then.

    Times are seconds since the start.
    """

    def __init__(self) -> None:
        self._samples: collections.deque[tuple[float, int, int]] = collections.deque([(0.0, 0, 0)])

    def add(self, at_s: float, rows: int, texts: int) -> None:
        """Add the counts at a moment; they may be lower than before."""
        if not any(self._samples[-1][1:]):  # Start-up, before the first result, does not count.
            self._samples = collections.deque([self._samples[-1]])
        self._samples.append((at_s, rows, texts))
        while len(self._samples) > 2 and self._samples[1][0] <= at_s - RATE_WINDOW_S:
            self._samples.popleft()

    @property
    def rows_per_s(self) -> float:
        """Rows per second."""
        return self._rate(1)

    @property
    def texts_per_s(self) -> float:
        """Texts per second."""
        return self._rate(2)

    def _rate(self, column: int) -> float:
        first, last = self._samples[0], self._samples[-1]
        seconds = last[0] - first[0]
        return max(0.0, (last[column] - first[column]) / seconds) if seconds > 0 else 0.0


def take_snapshot(
    goal: Goal, live: Live, elapsed_s: float, rates: Rates, ending: str | None = None
) -> Snapshot:
    """Return the snapshot for what the processes of a run have counted.

    Args:
        goal: what the run set out to do.
        live: the counts of all processes together.
        elapsed_s: since the run started to send.
        rates: the new counts are added to it.
        ending: why the run is about to end.
    """
    counts = live.counts
    rows = _rows_now(goal.rows, counts)
    done = goal.rows.left - rows.left
    rates.add(elapsed_s, done, counts.texts)
    texts_left = _texts_left(goal, counts, done, rows.left)
    tokens_left = _tokens_left(counts, texts_left)
    tokens_total = None if tokens_left is None else counts.tokens + tokens_left
    return Snapshot(
        elapsed_s=elapsed_s,
        rows=rows,
        ready=counts.ready,
        shared=counts.shared,
        shared_total=goal.shared,
        rows_per_s=rates.rows_per_s,
        texts_per_s=rates.texts_per_s,
        in_flight=live.in_flight,
        quota=live.quota,
        texts=counts.texts,
        tokens=counts.tokens,
        tokens_total=tokens_total,
        usd=_usd(goal, counts.tokens),
        usd_total=_usd(goal, tokens_total),
        waiting=live.waiting,
        eta_s=_eta_s(goal, live.quota, rates.rows_per_s, rows.left, texts_left, tokens_left),
        sent=counts.sent,
        retried=counts.retried,
        rate_limited=counts.rate_limited,
        codes=dict(counts.codes),
        ending=ending,
    )


def _rows_now(before: RowCounts, counts: LiveCounts) -> RowCounts:
    embedded = before.embedded + counts.embedded
    dead = before.dead + counts.dead
    skipped = before.skipped + counts.skipped
    left = before.rows_in - embedded - dead - skipped - counts.ready
    return RowCounts(before.rows_in, embedded, dead, skipped, max(0, left))


def _texts_left(goal: Goal, counts: LiveCounts, done: int, left: int) -> int | None:
    """Return how many texts are still to be sent; None before a row shows how many it takes."""
    if not left:
        return 0
    if not done:
        return None
    return round(left * max(0, counts.texts - counts.shared) / done)


def _tokens_left(counts: LiveCounts, texts_left: int | None) -> int | None:
    if texts_left is None or (texts_left and not counts.texts):
        return None
    return round(texts_left * counts.tokens / max(1, counts.texts))


def _usd(goal: Goal, tokens: int | None) -> float | None:
    return None if goal.price is None or tokens is None else goal.price.usd(tokens)


def _eta_s(
    goal: Goal,
    quota: QuotaUse | None,
    rows_per_s: float,
    rows_left: int,
    texts_left: int | None,
    tokens_left: int | None,
) -> float | None:
    """Return the seconds until the last row: by the speed so far or by the quota, if slower.

    The first requests fill the quota's window faster than the quota is returned, so the speed of
    the first seconds alone would promise too much.
    """
    if not rows_left:
        return 0.0
    if texts_left is None or tokens_left is None or rows_per_s <= 0:
        return None
    requests = math.ceil(texts_left / goal.texts_per_request)
    by_quota = 0.0
    if quota is not None:
        by_quota = max(
            _quota_s(quota, QuotaKind.RPM, requests), _quota_s(quota, QuotaKind.TPM, tokens_left)
        )
    return max(rows_left / rows_per_s, by_quota)


def _quota_s(quota: QuotaUse, kind: QuotaKind, needed: int) -> float:
    limit = quota.limits[kind]
    if limit is None:
        return 0.0
    room = max(0, limit - quota.used[kind])
    return max(0, needed - room) / limit * MINUTE_S
