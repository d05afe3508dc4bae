"""What a run is at while it works: counted in each process, added up, shown as progress."""

from __future__ import annotations

import collections
import dataclasses
import enum

from bulkembed.schemas.quota import QuotaKind


class Waiting(enum.StrEnum):
    """Why the next call does not go yet; where several processes wait, the first one is told."""

    OUTAGE = "outage"
    """The service fails, and is asked now and then whether it is back."""
    REFUSED = "refused"
    """The service refused a call for its quota, and all calls pause."""
    RPD = "rpd"
    TPM = "tpm"
    RPM = "rpm"
    PACE = "pace"
    """Calls are spread evenly."""
    PROBE = "probe"
    """At first, after a pause and near a limit few calls go: one of them has to be answered."""
    SLOTS = "slots"
    """As many calls are in the air as may be: the service's answers are waited for."""


@dataclasses.dataclass(frozen=True, slots=True)
class LiveCounts:
    """What a process has done so far of a run; such counts add up.

    `embedded`, `dead` and `skipped` are what commits changed; rows that are tried again are not
    among the dead when the run begins.
    """

    embedded: int = 0
    dead: int = 0
    skipped: int = 0
    ready: int = 0
    """Rows of units under way that have their fate."""
    shared: int = 0
    """Texts that several units share, answered ahead of them."""
    texts: int = 0
    tokens: int = 0
    sent: int = 0
    """Calls, each try counted."""
    retried: int = 0
    refused: int = 0
    """429s."""
    codes: tuple[tuple[str, int], ...] = ()
    """Committed dead letters by code, sorted."""

    def __add__(self, other: LiveCounts) -> LiveCounts:
        names = [field.name for field in dataclasses.fields(self) if field.name != "codes"]
        codes = collections.Counter(dict(self.codes))
        codes.update(dict(other.codes))
        return LiveCounts(
            **{name: getattr(self, name) + getattr(other, name) for name in names},
            codes=tuple(sorted(codes.items())),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class QuotaUse:
    """What counts against each limit now, and the limit; None: no limit."""

    used: dict[QuotaKind, int]
    limits: dict[QuotaKind, int | None]

    @classmethod
    def of(cls, **meters: tuple[int, int | None]) -> QuotaUse:
        """From (used, limit) by the kind's name."""
        used = {QuotaKind(kind): meter[0] for kind, meter in meters.items()}
        return cls(used, {QuotaKind(kind): meter[1] for kind, meter in meters.items()})


@dataclasses.dataclass(frozen=True, slots=True)
class Live:
    """What a process has done, and what it is at; of several processes, all of it together.

    `in_air` and `quota` are None where nobody can tell.
    """

    counts: LiveCounts = dataclasses.field(default_factory=LiveCounts)
    in_flight: int | None = None
    waiting: Waiting | None = None
    quota: QuotaUse | None = None

    def __add__(self, other: Live) -> Live:
        waits = [one for one in (self.waiting, other.waiting) if one is not None]
        flying = [one for one in (self.in_flight, other.in_flight) if one is not None]
        return Live(
            counts=self.counts + other.counts,
            in_flight=sum(flying) if flying else None,
            waiting=min(waits, key=list(Waiting).index, default=None),
            quota=other.quota or self.quota,
        )
