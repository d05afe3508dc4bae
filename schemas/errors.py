"""The errors that bulkembed raises on purpose.

BulkEmbedError
├── ConfigError          what the user asked for cannot be done; exit code 2
│   └── OtherLayout      the dataset has other columns; another output may take its vectors (reuse)
├── RunStopped           a run from Python ended before it was complete (exit_code, summary)
├── TooManyDeletes       the run would delete more rows than it may (deleted, allowed); exit code 3
├── InputError           an input file cannot be read (path, damaged)
├── OutputError          the output cannot be written or read (reason, missing, damaged)
│   └── OutputLocked     another run holds the output; exit code 5
│       └── OutputTaken  another run has taken over the output from this one; exit code 5
└── CallError            a call to the service gave no vectors
    │                      (http_status, code, service_message, retry_delay_s, index)
    ├── JobRejected      the service rejects every call of this job: key, permission, model, dim
    ├── CallRejected     the service rejects this call; fewer rows may pass (max_texts)
    ├── QuotaExceeded    a limit per minute or per day was hit (quota_id, quota_value)
    ├── Unavailable      the service could not answer: 408, 5xx, broken connection, time-out
    ├── Intercepted      something other than the service answered: a proxy's page, a redirect
    └── BadAnswer        the answer has another form, count or length than the request requires

The names in brackets are attributes, with facts for programs. They survive pickling: Beam pickles
every error of a worker. Every error has an `exit_code`: that of the command; 1 if none is given.
"""

from __future__ import annotations

import shlex
from typing import TypedDict, Unpack

from bulkembed.schemas.secrets import masked
from bulkembed.schemas.stop import ExitCode

_WITH_REUSE = "the same command with another --output and --reuse {}"


class BulkEmbedError(Exception):
    """Base of the errors above. Secrets that this process knows are masked in all strings."""

    exit_code: ExitCode = ExitCode.FAILED
    """What the command ends with."""

    def __init__(self, message: str) -> None:
        super().__init__(masked(message))

    @property
    def message(self) -> str:
        """The sentence to show."""
        return str(self.args[0])


class ConfigError(BulkEmbedError):
    """What the user asked for cannot be done; nothing was sent."""

    exit_code = ExitCode.USAGE


class OtherLayout(ConfigError):
    """The dataset has another layout, but vectors that another output can take at no cost."""

    def __init__(self, message: str, *, reuse: str = "") -> None:
        super().__init__(message)
        self.reuse = reuse
        """The dataset, as the user named it."""

    @classmethod
    def of(cls, problem: str, reuse: str) -> OtherLayout:
        """Return the error whose message ends with what to run, in words."""
        return cls(problem + _WITH_REUSE.format(shlex.quote(reuse)), reuse=reuse)

    def with_command(self, command: str) -> ConfigError:
        """Return the error with the whole command that keeps the vectors, in place of its words."""
        generic = _WITH_REUSE.format(shlex.quote(self.reuse))
        return ConfigError(self.message.removesuffix(generic) + command)


class RunStopped(BulkEmbedError):
    """A run that was started from Python ended before it was complete."""

    def __init__(
        self, message: str, *, exit_code: ExitCode = ExitCode.INCOMPLETE, summary: object = None
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        """75 if the same call resumes the run; 1, 3, 4 or 5 if not, as for the command."""
        self.summary = summary
        """The `RunSummary` of the run."""


class TooManyDeletes(BulkEmbedError):
    """The run would delete more rows than it may; nothing was sent or deleted."""

    exit_code = ExitCode.TOO_MANY_DELETES

    def __init__(self, message: str, *, deleted: int = 0, allowed: int = 0) -> None:
        super().__init__(message)
        self.deleted = deleted
        """How many rows it would delete."""
        self.allowed = allowed
        """How many it may delete."""


OR_SKIP = ", or skip the file with --skip-bad-files."
"""The last words of an InputError about a file that a run can skip."""


class InputError(BulkEmbedError):
    """An input file cannot be read."""

    def __init__(self, message: str, *, path: str = "", damaged: bool = False) -> None:
        super().__init__(message)
        self.path = masked(path)
        """The file; empty if the error is about several."""
        self.damaged = damaged
        """Whether the bytes of the file are at fault, so that `--skip-bad-files` can skip it."""

    @property
    def without_advice(self) -> str:
        """The message without `OR_SKIP`, for a run that skips the file."""
        return self.message.removesuffix(OR_SKIP)


class OutputError(BulkEmbedError):
    """The output cannot be written or read, or is not what it should be."""

    def __init__(
        self, message: str, *, reason: str = "", missing: bool = False, damaged: bool = False
    ) -> None:
        super().__init__(message)
        self.reason = masked(reason)
        """What is wrong, in a few words, without the name of the file."""
        self.missing = missing
        """Whether the file does not exist."""
        self.damaged = damaged
        """Whether the file is not what bulkembed writes."""


class OutputLocked(OutputError):
    """Another run holds the output; exit code 5."""

    exit_code = ExitCode.LOCKED


class OutputTaken(OutputLocked):
    """Another run has taken over the output from this one, which cannot commit any more."""


class CallFacts(TypedDict, total=False):
    """What is known about a failed call; see the attributes of `CallError`."""

    http_status: int | None
    code: str
    service_message: str
    retry_delay_s: float | None
    index: int | None


class CallError(BulkEmbedError):
    """A call to the service gave no vectors."""

    def __init__(
        self,
        message: str,
        *,
        http_status: int | None = None,
        code: str = "",
        service_message: str = "",
        retry_delay_s: float | None = None,
        index: int | None = None,
    ) -> None:
        super().__init__(message)
        self.http_status = http_status
        """The HTTP status of the answer; None if there was no answer."""
        self.code = code
        """The name of the rule in `clients.classification.RULES`, or of what else went wrong."""
        self.service_message = masked(service_message)
        """The service's own words."""
        self.retry_delay_s = retry_delay_s
        """How long the service asks the client to wait."""
        self.index = index
        """The position of the content that the service names, if it names one."""


class JobRejected(CallError):
    """The service will reject every call of this job: key, permission, model or dim."""


class CallRejected(CallError):
    """The service rejects this call as it is; fewer rows may pass."""

    def __init__(
        self,
        message: str,
        *,
        max_texts: int | None = None,
        **facts: Unpack[CallFacts],
    ) -> None:
        super().__init__(message, **facts)
        self.max_texts = max_texts
        """The maximum texts of a call, if the service says it."""


class QuotaExceeded(CallError):
    """A limit per minute or per day was hit (429)."""

    def __init__(
        self,
        message: str,
        *,
        quota_id: str | None = None,
        quota_value: int | None = None,
        **facts: Unpack[CallFacts],
    ) -> None:
        super().__init__(message, **facts)
        self.quota_id = quota_id
        """The limit that the service names, see `schemas.quota.QuotaKind.of_id`."""
        self.quota_value = quota_value
        """The limit itself, if the service says it."""


class Unavailable(CallError):
    """The service could not answer: 408, 5xx, a broken connection or a time-out."""


class Intercepted(CallError):
    """Something other than the service answered: a page, a redirect, a TLS error.

    A proxy may fail temporarily, so such a call is retried a few times.
    """


class BadAnswer(CallError):
    """The answer has the wrong count, length or form, or numbers that are not finite."""
