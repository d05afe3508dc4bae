"""Why a run ends, and the exit code that a scheduler sees."""

from __future__ import annotations

import dataclasses
import enum

from bulkembed.schemas.secrets import masked

RERUN = "Rerun the same command to resume."
"""The last sentence of a message if the run needs nothing but a rerun."""


class ExitCode(enum.IntEnum):
    """The exit code, for schedulers."""

    COMPLETE = 0
    FAILED = 1
    USAGE = 2
    TOO_MANY_DEAD_LETTERS = 3
    TOO_MANY_DELETES = 3
    COST_CAP = 4
    LOCKED = 5
    INCOMPLETE = 75
    """Rerun the same command; nothing else is needed."""


class StopReason(enum.StrEnum):
    """Why a run ended before its last row, the most serious reason first."""

    TAKEN_OVER = "taken_over"
    """Another run has taken over the dataset."""
    REJECTED = "refused"
    """The service rejects the job (key, permission, model, dim), or a proxy blocks it."""
    USELESS = "useless"
    """The service's answers have no usable vectors, and may be billed."""
    BROKEN = "broken"
    """The input cannot be read, the output cannot be written, or bulkembed has a fault."""
    DEAD_LETTERS = "dead_letters"
    """Too many rows failed."""
    COST_CAP = "cost_cap"
    """Another request might exceed the cost limit."""
    DAY_SPENT = "day_spent"
    """The day's quota is spent."""
    UNAVAILABLE = "unavailable"
    """The service failed for too long."""
    ENGINE = "engine"
    """The Beam runner ended the job: a worker or the runner itself was lost."""
    SIGNAL = "signal"
    """SIGINT or SIGTERM."""
    DEADLINE = "deadline"
    """The maximum time of the run (`--max-runtime`) is over."""
    DETACHED = "detached"
    """Batch jobs are submitted, and a later run collects their answers (`--detach`)."""


_EXIT_CODES = {
    StopReason.TAKEN_OVER: ExitCode.LOCKED,
    StopReason.REJECTED: ExitCode.FAILED,
    StopReason.USELESS: ExitCode.FAILED,
    StopReason.BROKEN: ExitCode.FAILED,
    StopReason.DEAD_LETTERS: ExitCode.TOO_MANY_DEAD_LETTERS,
    StopReason.COST_CAP: ExitCode.COST_CAP,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Stop:
    """A reason to end a run early, with a message for people."""

    reason: StopReason
    message: str
    at: float
    """When it was requested, in epoch seconds; the shutdown timeout starts then."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", masked(self.message))

    @property
    def rank(self) -> int:
        """0 for the most serious reason."""
        return list(StopReason).index(self.reason)

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of a run that ends for this reason."""
        return _EXIT_CODES.get(self.reason, ExitCode.INCOMPLETE)
