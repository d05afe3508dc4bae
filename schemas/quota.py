"""What the service allows: requests and tokens a minute, requests a day."""

from __future__ import annotations

import dataclasses
import enum

from schemas.errors import ConfigError


class RpmCounts(enum.StrEnum):
    """What counts as one request."""

    TEXTS = "texts"
    """Each text of a batch: what Gemini does."""
    CALLS = "calls"
    """Each HTTP call."""


class Pace(enum.StrEnum):
    """How the allowance of a window is spent."""

    WINDOW = "window"
    """As soon as the last 60 s allow it."""
    SMOOTH = "smooth"
    """Evenly over the window, for services that punish bursts."""


@dataclasses.dataclass(frozen=True, slots=True)
class QuotaLimits:
    """The limits a run keeps; None stands for no limit."""

    rpm: int | None = None
    tpm: int | None = None
    rpd: int | None = None
    rpm_counts: RpmCounts = RpmCounts.TEXTS
    pace: Pace = Pace.WINDOW

    def __post_init__(self) -> None:
        for name in ("rpm", "tpm", "rpd"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"--{name} {value}: give a number from 1, or 0 for no limit")

    def __str__(self) -> str:
        parts = [
            f"{value:,} {unit}"
            for value, unit in (
                (self.rpm, f"{self.rpm_counts} a minute"),
                (self.tpm, "tokens a minute"),
                (self.rpd, f"{self.rpm_counts} a day"),
            )
            if value is not None
        ]
        return ", ".join(parts) if parts else "no quota"
