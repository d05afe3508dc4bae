"""The quota: requests and tokens per minute, requests per day."""

from __future__ import annotations

import dataclasses
import enum
import fractions
import re

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.messages import number_of


class RpmCounts(enum.StrEnum):
    """What counts as one request."""

    TEXTS = "texts"
    """Each text of a batch, as Gemini counts."""
    CALLS = "calls"
    """Each HTTP call."""


class Pace(enum.StrEnum):
    """How the quota of a window is used."""

    WINDOW = "window"
    """As soon as the last 60 s allow."""
    SMOOTH = "smooth"
    """Evenly over the window, for services that reject bursts."""


class QuotaKind(enum.StrEnum):
    """The limit that a 429 is about."""

    RPM = "rpm"
    TPM = "tpm"
    RPD = "rpd"

    @classmethod
    def of_id(cls, quota_id: str | None) -> QuotaKind | None:
        """Return the kind that a 429's `quotaId` names; None if it names none.

        Source: the quotaIds in public threads, see docs/quotas.md.
        """
        if not quota_id:
            return None
        if "PerDay" in quota_id:
            return cls.RPD
        if "PerMinute" not in quota_id:
            return None
        return cls.TPM if "Token" in quota_id else cls.RPM


class Tier(enum.StrEnum):
    """Google's usage tiers of the Developer API."""

    FREE = "free"
    ONE = "1"
    TWO = "2"
    THREE = "3"


@dataclasses.dataclass(frozen=True, slots=True)
class QuotaLimits:
    """The limits of a run; None: no limit.

    The limits are those of the project; this host may use `share` of each.
    """

    rpm: int | None = None
    tpm: int | None = None
    rpd: int | None = None
    rpm_counts: RpmCounts = RpmCounts.TEXTS
    pace: Pace = Pace.WINDOW
    share: fractions.Fraction = fractions.Fraction(1)

    def __post_init__(self) -> None:
        for name in ("rpm", "tpm", "rpd"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"--{name} {value}: use a number from 1, or 0 for no limit")
        if not 0 < self.share <= 1:
            raise ConfigError(f"--quota-share {self.share}: use a fraction of 1, such as 1/4.")

    def shared(self, limit: int) -> int:
        """Return this host's share of a limit, at least 1."""
        return max(1, int(limit * self.share))

    def __str__(self) -> str:
        counted = self.rpm_counts.removesuffix("s")
        parts = [
            f"{number_of(value, noun)} per {period}"
            for value, noun, period in (
                (self.rpm, counted, "minute"),
                (self.tpm, "token", "minute"),
                (self.rpd, counted, "day"),
            )
            if value is not None
        ]
        if not parts:
            return "no quota"
        own = f" (of which {self.share} here)" if self.share != 1 else ""
        return ", ".join(parts) + own


def parse_share(text: str) -> fractions.Fraction:
    """Return the share that `1/4`, `0.25` or `1` stands for.

    Raises:
        ConfigError: it is not a number above 0 and at most 1.
    """
    plain = text.strip()
    if re.fullmatch(r"\d+(/\d*[1-9]\d*|\.\d+)?", plain):
        share = fractions.Fraction(plain)
        if 0 < share <= 1:
            return share
    raise ConfigError(f"--quota-share {text}: use a fraction of 1, such as 1/4.")
