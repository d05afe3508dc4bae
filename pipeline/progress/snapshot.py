"""A run at one moment: where its rows are, its speed, its cost and the time that is left."""

from __future__ import annotations

import bisect
import collections
import dataclasses
import math

from bulkembed.pipeline.progress.time_left import ActiveSpeed, WorkAmount, time_left_s
from bulkembed.pipeline.run.summary import RowCounts
from bulkembed.schemas.live import Live, LiveCounts, LiveJobs, QuotaUse, Waiting
from bulkembed.schemas.media import SAME_PRICE, MediaFactors
from bulkembed.schemas.prices import Price
from bulkembed.transforms.dataset.records import DatasetState

RATE_WINDOW_S = 60.0
"""The displayed speed is that of so many seconds."""
ACTIVE_WINDOW_S = 600.0
"""The time left follows from the speed of so many seconds: waiting for quota is not counted."""


@dataclasses.dataclass(slots=True)
class Goal:
    """What a run set out to do; `shared` may grow later."""

    rows: RowCounts
    """Where the rows are at the start; `left` are those that this run is to process."""
    before: DatasetState = dataclasses.field(default_factory=DatasetState)
    """What was committed at the start."""
    shared: int = 0
    """Texts that occur in several units; they are sent first."""
    price: Price | None = None
    """None if unknown."""
    factors: MediaFactors = SAME_PRICE
    """The prices of media."""
    texts_per_request: int = 1
    """How many texts the service counts as one request."""
    processes: int = 1
    """Processes that wait for quota at the same time."""
    content_noun: str = "text"
    """What is sent for a row, in messages."""


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
    wait_s: float | None
    """Seconds until the quota allows the next request, or the next look at batch jobs."""
    left_s: float | None
    """Seconds until the last row."""
    sent: int
    retried: int
    rate_limited: int
    codes: dict[str, int]
    """Dead letters of this run by code."""
    jobs: LiveJobs | None = None
    """The batch jobs of this run; None without batch mode."""
    ending: str | None = None
    """Why the run is about to end."""
    content_noun: str = "text"
    """What is sent for a row, in messages."""

    @property
    def done(self) -> int:
        """Rows with a result, committed or not."""
        return self.rows.rows_in - self.rows.left


class Rates:
    """The speed of a run, from counts that are added now and then.

    Times are seconds since the start. Start-up, before the first result, does not count.
    """

    def __init__(self) -> None:
        self._samples: collections.deque[_Sample] = collections.deque(
            [_Sample(0.0, 0.0, WorkAmount())]
        )

    def add(
        self, at_s: float, rows: int, texts: int, tokens: int = 0, throttled_s: float = 0.0
    ) -> None:
        """Add the counts at a moment, which may be lower than before, and the time of waiting."""
        samples = self._samples
        if not samples[-1].has_results:
            samples = self._samples = collections.deque([samples[-1]])
        samples.append(_Sample(at_s, throttled_s, WorkAmount(rows, texts, tokens)))
        while len(samples) > 2 and samples[1].at_s <= at_s - ACTIVE_WINDOW_S:
            samples.popleft()

    @property
    def rows_per_s(self) -> float:
        """Rows per second in the last minute."""
        seconds, done = self._since(RATE_WINDOW_S)
        return done.rows / seconds if seconds else 0.0

    @property
    def texts_per_s(self) -> float:
        """Texts per second in the last minute."""
        seconds, done = self._since(RATE_WINDOW_S)
        return done.requests / seconds if seconds else 0.0

    @property
    def active(self) -> ActiveSpeed:
        """The speed while no request waits for quota."""
        waited_s = self._samples[-1].throttled_s - self._samples[0].throttled_s
        seconds, done = self._since(ACTIVE_WINDOW_S)
        return ActiveSpeed.of(done, seconds - waited_s)

    def _since(self, window_s: float) -> tuple[float, WorkAmount]:
        """Return the seconds between the last sample and one before the window, and the work."""
        last = self._samples[-1]
        at = bisect.bisect_right(self._samples, last.at_s - window_s, key=lambda one: one.at_s)
        first = self._samples[max(0, at - 1)]
        return last.at_s - first.at_s, last.done - first.done


@dataclasses.dataclass(frozen=True, slots=True)
class _Sample:
    at_s: float
    throttled_s: float
    done: WorkAmount
    """`requests` are texts here."""

    @property
    def has_results(self) -> bool:
        return bool(self.done.rows or self.done.requests)


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
    throttled_s = counts.throttled_ms / 1000 / goal.processes
    rates.add(elapsed_s, done, counts.texts, counts.tokens, throttled_s)
    texts_left = _texts_left(goal, counts, done, rows.left)
    tokens_left = _tokens_left(counts, texts_left)
    waiting, wait_s, jobs = live.waiting, live.wait_s, live.jobs
    if jobs is not None:
        # Rows are committed long after their texts were sent, many at a time.
        texts_left = tokens_left = None
        if waiting is None and jobs.look_s is not None:
            waiting, wait_s = Waiting.BATCH, jobs.look_s
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
        tokens=counts.tokens + (jobs.paid_tokens if jobs else 0),
        tokens_total=tokens_total,
        usd=_usd(goal, counts, counts.tokens, jobs.billed_tokens if jobs else 0),
        usd_total=_usd(goal, counts, tokens_total),
        waiting=waiting,
        wait_s=wait_s,
        left_s=_left_s(goal, live.quota, rates.active, rows.left, texts_left, tokens_left),
        sent=counts.sent,
        retried=counts.retried,
        rate_limited=counts.rate_limited,
        codes=dict(counts.codes),
        jobs=jobs,
        ending=ending,
        content_noun=goal.content_noun,
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


def _usd(goal: Goal, counts: LiveCounts, tokens: int | None, batch_tokens: int = 0) -> float | None:
    """Return the price of some tokens, with as much media among them as there was so far."""
    if goal.price is None or tokens is None:
        return None
    surcharge = goal.factors.surcharge(counts.media) / max(1, counts.tokens)
    return goal.price.usd(tokens * (1 + surcharge)) + goal.price.batch_usd(batch_tokens)


def _left_s(
    goal: Goal,
    quota: QuotaUse | None,
    speed: ActiveSpeed,
    rows_left: int,
    texts_left: int | None,
    tokens_left: int | None,
) -> float | None:
    """Return the seconds until the last row; None before the first results."""
    if not rows_left:
        return 0.0
    if texts_left is None or tokens_left is None:
        return None
    texts = goal.texts_per_request
    left = WorkAmount(rows_left, math.ceil(texts_left / texts), tokens_left)
    per_s = ActiveSpeed(speed.rows, speed.requests / texts, speed.tokens)
    return time_left_s(left, per_s, quota) or None
