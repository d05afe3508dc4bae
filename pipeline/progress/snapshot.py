"""A run at one moment: where its rows are, how fast it is, what it costs, when it will be done."""

from __future__ import annotations

import collections
import dataclasses
import math

from bulkembed.pipeline.run.summary import RowCounts
from bulkembed.schemas.live import Live, LiveCounts, QuotaUse, Waiting
from bulkembed.schemas.prices import Price
from bulkembed.schemas.quota import QuotaKind
from bulkembed.transforms.dataset.records import DatasetState

SPAN_S = 60.0


class Rates:
    """Told now and then how much is done; gives the speed.  Times are seconds since the start."""

    def __init__(self) -> None:
        self._seen: collections.deque[tuple[float, int, int]] = collections.deque([(0.0, 0, 0)])

    def add(self, at_s: float, rows: int, texts: int) -> None:
        """Notes the numbers of a moment; they may also fall."""
        if not any(self._seen[-1][1:]):  # Nothing was done yet: starting up is not slow work.
            self._seen = collections.deque([self._seen[-1]])
        self._seen.append((at_s, rows, texts))
        while len(self._seen) > 2 and self._seen[1][0] <= at_s - SPAN_S:
            self._seen.popleft()

    @property
    def rows_per_s(self) -> float:
        """Of the last minute, or since the start."""
        return self._of(1)

    @property
    def texts_per_s(self) -> float:
        """The same of texts."""
        return self._of(2)

    def _of(self, place: int) -> float:
        first, last = self._seen[0], self._seen[-1]
        seconds = last[0] - first[0]
        return max(0.0, (last[place] - first[place]) / seconds) if seconds > 0 else 0.0


MINUTE_S = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Goal:
    """What a run set out to do."""

    rows: RowCounts
    """Where the rows are when it begins; `left` are those that it is to do."""
    before: DatasetState = dataclasses.field(default_factory=DatasetState)
    """What was committed when it began."""
    shared: int = 0
    """Texts that several units share; they are sent first."""
    price: Price | None = None
    """None where it is not known."""
    texts_per_request: int = 1
    """How many texts the service counts as one request."""


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """All that is shown.  None stands for what nobody can tell, or not yet."""

    elapsed_s: float
    rows: RowCounts
    """As it stands; rows that are `ready` are in none of its places."""
    ready: int
    """Rows that have their fate, in units that are not committed yet."""
    shared: int
    shared_total: int
    rows_per_s: float
    texts_per_s: float
    in_flight: int | None
    quota: QuotaUse | None
    texts: int
    tokens: int
    tokens_total: int | None
    """What the run will have sent when it is done."""
    usd: float | None
    usd_total: float | None
    waiting: Waiting | None
    eta_s: float | None
    sent: int
    retried: int
    refused: int
    codes: dict[str, int]
    """Dead letters of this run by code."""
    ending: str | None = None
    """Why the run is about to end."""

    @property
    def done(self) -> int:
        """Rows that have their fate, committed or not."""
        return self.rows.rows_in - self.rows.left


def take_snapshot(
    goal: Goal, live: Live, elapsed_s: float, rates: Rates, ending: str | None = None
) -> Snapshot:
    """The snapshot of what the processes of a run have counted.

    Args:
        goal: what the run set out to do.
        live: all processes together.
        elapsed_s: since the run began to send.
        rates: is told the new numbers here.
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
        eta_s=_left_s(goal, live.quota, rates.rows_per_s, rows.left, texts_left, tokens_left),
        sent=counts.sent,
        retried=counts.retried,
        refused=counts.refused,
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
    """How many texts are still to be sent; None as long as no row shows how many one takes."""
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


def _left_s(
    goal: Goal,
    quota: QuotaUse | None,
    rows_per_s: float,
    rows_left: int,
    texts_left: int | None,
    tokens_left: int | None,
) -> float | None:
    """Seconds until the last row: by the speed so far, or by the quota where that is slower.

    A window that has room is filled faster than the quota is given back, so that the first
    seconds promise too much.
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
