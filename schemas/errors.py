"""Every error that is raised on purpose.

BulkEmbedError
├── ConfigError          what the user asked for cannot be done; exit code 2
├── InputError           an input file cannot be read
├── OutputError          the output cannot be written or is not what it should be
│   └── OutputLocked     another run is at work on it; exit code 5
│       └── OutputTaken  another run has taken it over from this one; exit code 5
└── CallError            one call to the service did not give vectors
    ├── JobRefused       the service refuses the job: key, permission, model, dim; final
    ├── CallRefused      the make-up of the call is refused: split it, down to the row
    ├── QuotaExceeded    a limit per minute or per day was hit (429)
    ├── Unavailable      the service's state: 408, 5xx, a broken connection, a time-out
    ├── Intercepted      something else than the service answers: a proxy's page, a redirect
    └── BadAnswer        an answer that is not the one asked for
"""

from __future__ import annotations

from typing import Any

from bulkembed.schemas.secrets import masked


class BulkEmbedError(Exception):
    """Base of the errors above: one message for people, and facts by keyword for programs.

    The facts survive pickling, which Beam does to every error of a worker.  Secrets that this
    process knows are masked in both.
    """

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(masked(message))
        self.facts = {
            name: masked(fact) if isinstance(fact, str) else fact for name, fact in facts.items()
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.facts)

    @property
    def message(self) -> str:
        """The sentence to show."""
        return str(self.args[0])


def _rebuild(
    kind: type[BulkEmbedError], args: tuple[Any, ...], facts: dict[str, object]
) -> BulkEmbedError:
    error = kind(*args)
    error.facts = facts
    return error


class ConfigError(BulkEmbedError):
    """What was asked for cannot be done; nothing was sent."""


OR_SKIP = ", or skip the file with --skip-bad-files."
"""The last words of an InputError about a file that a run can do without."""


class InputError(BulkEmbedError):
    """An input file cannot be read.

    Facts: `path`; `damaged`, where the bytes of the file are at fault, and other files can be read.
    """

    @property
    def is_damage(self) -> bool:
        """Whether `--skip-bad-files` covers it while rows are read."""
        return self.facts.get("damaged") is True

    @property
    def without_advice(self) -> str:
        """The message without `OR_SKIP`, for a run that skips the file."""
        return self.message.removesuffix(OR_SKIP)


class OutputError(BulkEmbedError):
    """The output cannot be written, or what stands there does not fit."""


class OutputLocked(OutputError):
    """Another run is at work on the output; exit code 5."""


class OutputTaken(OutputLocked):
    """Another run has taken the output over from this one, which cannot commit any more."""


class CallError(BulkEmbedError):
    """One call to the service did not give vectors.

    Facts, where they are known: `http_status`, `code` (a short word of ours, see core.verdict).
    """

    @property
    def http_status(self) -> int | None:
        """The HTTP status of the answer; None where there was no answer."""
        return self._whole("http_status")

    @property
    def code(self) -> str:
        """The name of the row of `core.verdict.TABLE`, or of what else went wrong; "" if none."""
        return str(self.facts.get("code") or "")

    @property
    def index(self) -> int | None:
        """The position of the text that the service names, if it names one."""
        return self._whole("index")

    @property
    def most_texts(self) -> int | None:
        """The most texts that a call may hold, if the service says so."""
        return self._whole("most_texts")

    @property
    def retry_delay_s(self) -> float | None:
        """How long the service asks to stay away, if it does."""
        value = self.facts.get("retry_delay_s")
        return float(value) if isinstance(value, int | float) else None

    def _whole(self, name: str) -> int | None:
        value = self.facts.get(name)
        return value if isinstance(value, int) else None


class JobRefused(CallError):
    """The service will refuse every call of this job: key, permission, model or dim."""


class CallRefused(CallError):
    """The service refuses this call for its make-up; fewer rows may pass."""


class QuotaExceeded(CallError):
    """A quota was hit.  Facts: `quota`, what the service says of it (core.verdict.QuotaWords)."""

    @property
    def resets_at(self) -> float | None:
        """When the day's quota is back, in epoch seconds; None for a limit per minute."""
        value = self.facts.get("resets_at")
        return float(value) if isinstance(value, int | float) else None


class Unavailable(CallError):
    """The service could not answer: 408, 5xx, a broken connection or a time-out."""


class Intercepted(CallError):
    """Something else than the service answers: a page, a redirect, TLS that is none.

    A proxy may be at fault for a moment, so such a call is sent a few times more.
    """


class BadAnswer(CallError):
    """The answer has the wrong count, length or form, or numbers that are not finite."""
