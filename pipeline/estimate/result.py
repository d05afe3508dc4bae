"""An estimate, and its forms for people and for programs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from bulkembed.pipeline.estimate.counting import LongestText
from bulkembed.pipeline.run.refusal import Refusal
from bulkembed.schemas.batch import BatchConfig
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.prices import Price
from bulkembed.schemas.quota import QuotaKind, QuotaLimits
from bulkembed.transforms.core.quota_limits import DAY_S, QuotaTime

SECONDS_UP_TO = 120
"""A shorter time is shown in seconds."""
MINUTES_UP_TO = 120
"""A shorter time is shown in minutes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Amount:
    """A number and half the width of its 95 % interval, which is 0.0 if all input was read."""

    value: float
    off: float = 0.0

    def __add__(self, known: float) -> Amount:
        return Amount(self.value + known, self.off)

    def __str__(self) -> str:
        return f"{self.value:,.0f}" + (f" ± {self.off:,.0f}" if self.off else "")

    def to_json(self) -> dict[str, int]:
        """Return whole numbers."""
        return {"value": round(self.value), "off": round(self.off)}


@dataclasses.dataclass(frozen=True, slots=True)
class BatchEstimate:
    """The batch jobs that the texts need."""

    jobs: int
    rounds: int
    """How many times as many tokens as may be enqueued at a time; 1 without a limit."""
    enqueued_tokens: int | None

    @classmethod
    def of(
        cls, settings: BatchConfig, texts: float, tokens: float, files: int = 0
    ) -> BatchEstimate:
        """Return the jobs for so many texts and tokens; `files` is a minimum, because of bytes."""
        limit = settings.enqueued_tokens
        rounds = 1 if limit is None else max(1, math.ceil(tokens / limit))
        jobs = max(math.ceil(texts / settings.job_rows), rounds, files)
        return cls(jobs, rounds, limit)

    def line(self) -> str:
        """Return the jobs, and how long they take."""
        line = number_of(self.jobs, "job")
        if self.rounds == 1:
            return f"{line}, usually done within a day"
        return (
            f"{line}, one after the other because of {self.enqueued_tokens:,} enqueued tokens; "
            "each is usually done within a day"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Estimate:
    """The rows, requests, tokens, cost and duration of a run."""

    model: str
    service: str
    dim: int | None
    long_text: str
    limits: QuotaLimits
    rows_in: int
    rows_left: int
    """Rows that no commit record covers."""
    rows_due: int
    """Rows that the run processes."""
    blank: Amount
    unfit: Amount
    """Invalid rows: they cannot be sent for another reason than a blank text."""
    codes: dict[str, int]
    """Invalid rows by code, among the rows that were read."""
    repeated: Amount
    """Texts and passages that duplicate one of this run or of an earlier run."""
    reused: Amount
    """How many of `repeated` have a vector from an earlier run or another dataset."""
    too_long: Amount
    """Rows whose text is cut, or has more tokens than the model accepts (estimated)."""
    paid: Amount
    """Texts whose vectors an interrupted run has kept."""
    texts: Amount
    tokens: Amount
    calls: Amount
    billed: Amount
    """The tokens of text that cost the same: media has other prices."""
    price: Price | None
    time: QuotaTime
    batch: BatchEstimate | None
    """None if the tier has no batch jobs."""
    longest: tuple[LongestText, ...]
    units: int
    units_read: int
    rows_read: int
    learnt_units: int
    """Committed units whose token counts have corrected the estimate."""
    refused: Refusal | None = None
    """Why the run would end before it sends anything."""
    content_noun: str = "text"
    """What is sent for a row, in messages."""

    @property
    def is_sample(self) -> bool:
        """Whether only a sample of the rows was read."""
        return self.units_read < self.units

    def to_json(self) -> dict[str, Any]:
        """Return plain values; amounts have half the width of their 95 % interval."""
        names = (
            "blank",
            "unfit",
            "repeated",
            "reused",
            "too_long",
            "paid",
            "texts",
            "tokens",
            "calls",
        )
        price, tokens = self.price, self.billed.value
        return {
            "model": self.model,
            "service": self.service,
            "dim": self.dim,
            "rows": {"in": self.rows_in, "left": self.rows_left, "due": self.rows_due},
            **{name: getattr(self, name).to_json() for name in names},
            "codes": self.codes,
            "usd_per_mtok": None if price is None else price.online,
            "usd": None if price is None else price.usd(tokens),
            "batch_usd": None if price is None else price.batch_usd(tokens),
            "batch": None if self.batch is None else dataclasses.asdict(self.batch),
            "seconds_at_least": self.time.seconds,
            "seconds_by_limit": {str(kind): s for kind, s in self.time.by_limit.items()},
            "limit_that_binds": self.time.slowest,
            "longest": [dataclasses.asdict(one) for one in self.longest],
            "sample": {"units": self.units_read, "of": self.units, "rows": self.rows_read},
            "learnt_units": self.learnt_units,
            "refused": self.refused and dataclasses.asdict(self.refused),
        }


def estimate_lines(found: Estimate) -> Iterator[tuple[str, str]]:
    """Yield the estimate for people, as pairs of a name and a text."""
    yield "model", f"{found.model} on {found.service}, dim {found.dim or 'of the first response'}"
    if found.is_sample:
        yield "sample", _sample(found)
    yield "rows", _rows(found)
    yield f"{found.content_noun}s", _texts(found)
    learnt = (
        f", corrected by {number_of(found.learnt_units, 'committed unit')}"
        if found.learnt_units
        else ""
    )
    yield "tokens", f"about {found.tokens}{learnt}"
    yield "requests", f"{found.calls}"
    yield "cost", _cost(found)
    yield "duration", _time(found)
    if found.batch is not None and found.texts.value:
        yield "batch", _batch(found, found.batch)
    for number, one in enumerate(found.longest):
        where = f"row {one.row:,} of {one.file}"
        size = f"about {one.tokens:,} tokens, {one.characters:,} characters"
        yield "" if number else "longest", f"{where}: {size}"


def _sample(found: Estimate) -> str:
    return (
        f"{number_of(found.rows_read, 'row')} in {found.units_read:,} of "
        f"{number_of(found.units, 'unit')}. ± is the 95 % interval. Duplicates in different units "
        "of this run are not found, so "
        f"it may send fewer {found.content_noun}s."
    )


def _rows(found: Estimate) -> str:
    line = f"{found.rows_in:,} in: {found.rows_in - found.rows_left:,} already committed, "
    line += f"{found.rows_due:,} to process ({found.blank} blank, {found.unfit} invalid)"
    return line + (
        f" ({', '.join(f'{n:,} {c}' for c, n in found.codes.items())})" * bool(found.codes)
    )


_LONG_TEXTS = {
    "truncate": "too long for the model (the service truncates them)",
    "dead-letter": "too long for the model (they fail)",
    "stop": "too long for the model (they stop the run)",
    "passages": "cut into passages",
    "pieces": "cut into pieces",
    "mean": "cut into passages",
}
"""How long texts or media are handled, by the value of --long-text or --long-media."""


def _texts(found: Estimate) -> str:
    line = f"{found.texts} to send"
    if found.reused.value:
        line += f", {found.reused} reused from earlier runs"
    duplicate = Amount(found.repeated.value - found.reused.value, found.repeated.off)
    line += f", {duplicate} duplicate"
    if found.paid.value:
        line += f", {found.paid} kept from an interrupted run"
    if found.too_long.value:
        line += f"; {found.too_long} {_LONG_TEXTS[found.long_text]}"
    return line


def _cost(found: Estimate) -> str:
    if found.price is None:
        return f"unknown for {found.model} on {found.service}. Give it with --price-usd-per-mtok."
    tokens, off = found.billed.value, found.billed.off
    margin = f" ± {found.price.usd(off):,.4f}" if off else ""
    return (
        f"{found.price.usd(tokens):,.4f}{margin} USD at {found.price.online:g} USD per million "
        + ("tokens" if found.billed == found.tokens else "tokens of text")
    )


def _batch(found: Estimate, batch: BatchEstimate) -> str:
    """Return the price and the duration with `--mode batch`."""
    if found.price is None:
        return f"{batch.line()} (--mode batch)"
    return f"{found.price.batch_usd(found.billed.value):,.4f} USD in {batch.line()} (--mode batch)"


def _time(found: Estimate) -> str:
    slowest, limits = found.time.slowest, found.limits
    if slowest is None:
        return f"not limited by quota ({limits}); bound by API latency"
    limit = getattr(limits, slowest)
    unit = "tokens" if slowest is QuotaKind.TPM else str(limits.rpm_counts)
    per = "per day: run it once a day" if slowest is QuotaKind.RPD else "per minute"
    others = [
        f"{duration(s)} by {kind}" for kind, s in found.time.by_limit.items() if kind != slowest
    ]
    line = f"at least {duration(found.time.seconds)}, limited by --{slowest} {limit:,} {unit} {per}"
    return line + (f" ({', '.join(others)})" if others else "")


def duration(seconds: float) -> str:
    """Return a time for people: `95 s`, `12 min`, `3.5 h`, `2 days`."""
    if seconds < SECONDS_UP_TO:
        return f"{seconds:.0f} s"
    if seconds < MINUTES_UP_TO * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * DAY_S else f"{seconds / DAY_S:,.0f} days"
