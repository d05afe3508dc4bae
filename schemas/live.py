"""The progress of a run: counted in each process, added up, and shown."""

from __future__ import annotations

import collections
import dataclasses
import enum

from bulkembed.schemas.media import MediaTokens
from bulkembed.schemas.quota import QuotaKind


class Waiting(enum.StrEnum):
    """Why the next request waits; if several processes wait, the first reason of this list."""

    OUTAGE = "outage"
    """The service is down; single requests test whether it is back."""
    RATE_LIMITED = "refused"
    """After a 429 all requests pause."""
    RPD = "rpd"
    TPM = "tpm"
    RPM = "rpm"
    PACE = "pace"
    """Requests are spread evenly."""
    PROBE = "probe"
    """At the start, after a pause and near a limit, a few requests test the limit."""
    SLOTS = "slots"
    """The maximum of requests is in flight."""
    BATCH = "batch"
    """Batch jobs are open, and are looked at again later."""


@dataclasses.dataclass(frozen=True, slots=True)
class LiveCounts:
    """What a process has done in a run so far; such counts can be added.

    `embedded`, `dead` and `skipped` are changes by commits. Dead letters that the run retries are
    not counted as dead when it begins.
    """

    embedded: int = 0
    dead: int = 0
    skipped: int = 0
    ready: int = 0
    """Rows of unfinished units that have a vector or have failed."""
    shared: int = 0
    """Texts shared by several units, answered before them."""
    texts: int = 0
    tokens: int = 0
    image_tokens: int = 0
    """How many of `tokens` are of images, and of pages of PDF files."""
    audio_tokens: int = 0
    video_tokens: int = 0
    sent: int = 0
    """Requests, including retries."""
    retried: int = 0
    rate_limited: int = 0
    """429s."""
    throttled_ms: int = 0
    """How long requests could have been sent if the quota had allowed it."""
    codes: tuple[tuple[str, int], ...] = ()
    """Committed dead letters by code, sorted."""

    @property
    def media(self) -> MediaTokens:
        """How many of the tokens are of media."""
        return MediaTokens(self.image_tokens, self.audio_tokens, self.video_tokens)

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
    """What counts against each limit now, and the limits; None: no limit."""

    used: dict[QuotaKind, int]
    limits: dict[QuotaKind, int | None]
    leaving: tuple[tuple[float, int, int], ...] = ()
    """In how many seconds how many requests and tokens leave the window, the earliest first."""
    is_smooth: bool = False
    """Whether requests are spread evenly."""

    @classmethod
    def of(cls, **meters: tuple[int, int | None]) -> QuotaUse:
        """Return the use from (used, limit) by the name of the kind."""
        used = {QuotaKind(kind): meter[0] for kind, meter in meters.items()}
        return cls(used, {QuotaKind(kind): meter[1] for kind, meter in meters.items()})


@dataclasses.dataclass(frozen=True, slots=True)
class LiveJobs:
    """The batch jobs of a run."""

    open: int
    """Jobs whose answers may still come."""
    texts: int
    """The texts of open jobs."""
    tokens: int
    """The tokens of open jobs, about as the service counts them."""
    tokens_limit: int | None
    """None: no limit."""
    oldest_s: float | None
    """The age of the oldest open job; None if none is open."""
    look_s: float | None
    """Seconds until the next look at the open jobs; None if the run does not wait for them."""
    ended: int
    """Jobs that have ended since the run began, with answers or without."""
    paid_tokens: int
    """What the answers cost that were collected since then."""
    paid_surcharge: int = 0
    """What their media costs above that, in tokens of text."""

    @property
    def billed_tokens(self) -> int:
        """The tokens of text that cost the same."""
        return self.paid_tokens + self.paid_surcharge


@dataclasses.dataclass(frozen=True, slots=True)
class Live:
    """What a process has done and is doing; several of them can be added.

    `in_flight` and `quota` are None if unknown.
    """

    counts: LiveCounts = dataclasses.field(default_factory=LiveCounts)
    in_flight: int | None = None
    waiting: Waiting | None = None
    wait_s: float | None = None
    """Seconds until the quota allows the next request; None if nothing waits for a known time."""
    quota: QuotaUse | None = None
    jobs: LiveJobs | None = None
    """None if the run has no batch mode."""

    def __add__(self, other: Live) -> Live:
        waits = [one for one in (self.waiting, other.waiting) if one is not None]
        times = [one for one in (self.wait_s, other.wait_s) if one is not None]
        in_flight = [one for one in (self.in_flight, other.in_flight) if one is not None]
        return Live(
            counts=self.counts + other.counts,
            in_flight=sum(in_flight) if in_flight else None,
            waiting=min(waits, key=list(Waiting).index, default=None),
            wait_s=min(times, default=None),
            quota=other.quota or self.quota,
            jobs=other.jobs or self.jobs,
        )
