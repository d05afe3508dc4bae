"""An estimate as it is shown: for people, and for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from bulkembed.pipeline.estimate.counting import LongestText
from bulkembed.schemas.prices import Price
from bulkembed.schemas.quota import QuotaKind, QuotaLimits
from bulkembed.transforms.core.quota_limits import DAY_S, QuotaTime

SECONDS_SHOWN = 120
MINUTES_SHOWN = 120


@dataclasses.dataclass(frozen=True, slots=True)
class Amount:
    """A number, and half the width of its 95 % interval; 0.0 where all of the input was read."""

    value: float
    off: float = 0.0

    def __add__(self, known: float) -> Amount:
        return Amount(self.value + known, self.off)

    def __str__(self) -> str:
        return f"{self.value:,.0f}" + (f" ± {self.off:,.0f}" if self.off else "")

    def to_json(self) -> dict[str, int]:
        """Whole numbers."""
        return {"value": round(self.value), "off": round(self.off)}


@dataclasses.dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would do."""

    model: str
    service: str
    dim: int | None
    long_text: str
    limits: QuotaLimits
    rows_in: int
    rows_left: int
    """Rows that no commit record covers."""
    rows_due: int
    """Rows of the run."""
    blank: Amount
    unfit: Amount
    """Rows that cannot be sent for another reason than that."""
    codes: dict[str, int]
    """Of those that were seen."""
    repeated: Amount
    """Texts, passages as well, that another row brings, of this run or of one before."""
    too_long: Amount
    """Rows whose text is cut, or has more tokens than the model takes, as estimated."""
    paid: Amount
    """Texts whose answers a killed run left."""
    texts: Amount
    tokens: Amount
    calls: Amount
    price: Price | None
    time: QuotaTime
    longest: tuple[LongestText, ...]
    units: int
    units_read: int
    rows_read: int
    learnt_units: int
    """Committed units whose token counts were learnt from."""

    @property
    def is_sample(self) -> bool:
        """Whether not all of the rows were looked at."""
        return self.units_read < self.units

    def to_json(self) -> dict[str, Any]:
        """Plain values; amounts with half the width of their 95 % interval."""
        names = ("blank", "unfit", "repeated", "too_long", "paid", "texts", "tokens", "calls")
        price, tokens = self.price, self.tokens.value
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
            "seconds_at_least": self.time.seconds,
            "seconds_by_limit": {str(kind): s for kind, s in self.time.by_limit.items()},
            "limit_that_binds": self.time.slowest,
            "longest": [dataclasses.asdict(one) for one in self.longest],
            "sample": {"units": self.units_read, "of": self.units, "rows": self.rows_read},
            "learnt_units": self.learnt_units,
        }


def estimate_lines(found: Estimate) -> Iterator[tuple[str, str]]:
    """The estimate for people, a name and a text a line."""
    yield "model", f"{found.model} on {found.service}, dim {found.dim or 'by the first answer'}"
    if found.is_sample:
        yield "sample", _sample(found)
    yield "rows", _rows(found)
    yield "texts", _texts(found)
    learnt = f", corrected by {found.learnt_units:,} committed units" if found.learnt_units else ""
    yield "tokens", f"about {found.tokens}{learnt}"
    yield "calls", f"{found.calls}"
    yield "price", _price(found)
    yield "time", _time(found)
    for number, one in enumerate(found.longest):
        where = f"row {one.row:,} of {one.file}"
        size = f"about {one.tokens:,} tokens, {one.characters:,} characters"
        yield "" if number else "longest", f"{where}: {size}"


def _sample(found: Estimate) -> str:
    return (
        f"{found.rows_read:,} rows in {found.units_read:,} of {found.units:,} units; ± is the 95 % "
        "interval of the sample; texts that several units share count for each, so that the run "
        "may send fewer"
    )


def _rows(found: Estimate) -> str:
    line = f"{found.rows_in:,} in: {found.rows_in - found.rows_left:,} done already, "
    line += f"{found.rows_due:,} to do; of these {found.blank} blank, {found.unfit} unfit to send"
    return line + (
        f" ({', '.join(f'{n:,} {c}' for c, n in found.codes.items())})" * bool(found.codes)
    )


_FATES = {
    "truncate": "too long for the model (cut by the service)",
    "dead-letter": "too long for the model (given up on)",
    "stop": "too long for the model (end the run)",
    "passages": "cut into passages",
    "mean": "cut into passages",
}
"""What becomes of long texts."""


def _texts(found: Estimate) -> str:
    line = f"{found.texts} to send; {found.repeated} rows repeat one"
    if found.paid.value:
        line += f", {found.paid} answers of a killed run are there"
    if found.too_long.value:
        line += f"; {found.too_long} rows are {_FATES[found.long_text]}"
    return line


def _price(found: Estimate) -> str:
    if found.price is None:
        return f"not known for {found.model} on {found.service}; say --price-usd-per-mtok"
    tokens, off = found.tokens.value, found.tokens.off
    margin = f" ± {found.price.usd(off):,.4f}" if off else ""
    return (
        f"{found.price.usd(tokens):,.4f}{margin} USD, at {found.price.online:g} for a million "
        f"tokens; the Batch API would take {found.price.batch_usd(tokens):,.4f} USD"
    )


def _time(found: Estimate) -> str:
    binds, limits = found.time.slowest, found.limits
    if binds is None:
        return f"no limit makes the run wait ({limits}): the service's speed decides"
    limit = getattr(limits, binds)
    unit = "tokens" if binds is QuotaKind.TPM else str(limits.rpm_counts)
    per = "a day: run it once a day" if binds is QuotaKind.RPD else "a minute"
    others = [
        f"{duration(s)} by {kind}" for kind, s in found.time.by_limit.items() if kind != binds
    ]
    line = f"at least {duration(found.time.seconds)}: --{binds} {limit:,} {unit} {per} binds"
    return line + (f" ({', '.join(others)})" if others else "")


def duration(seconds: float) -> str:
    """A time as people say it: `95 s`, `12 min`, `3.5 h`, `2 days`."""
    if seconds < SECONDS_SHOWN:
        return f"{seconds:.0f} s"
    if seconds < MINUTES_SHOWN * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * DAY_S else f"{seconds / DAY_S:,.0f} days"
