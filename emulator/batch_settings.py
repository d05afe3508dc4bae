"""The settings of files and batch jobs."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable

from bulkembed.schemas.errors import ConfigError

DAY_S = 86_400.0


class JobOutcome(enum.StrEnum):
    """How a batch job ends."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"
    """It expires when its time is over."""
    CANCELLED = "cancelled"
    """Another user cancels it."""
    HANG = "hang"
    """It runs until it expires, 48 h after its start."""
    HANG_PENDING = "hang-pending"
    """It is pending until it expires."""
    PAUSED = "paused"
    """Vertex AI: it is paused until it expires."""
    VANISH = "vanish"
    """It is not found any more when its time is over."""


class RowFault(enum.StrEnum):
    """A fault of a row of a job's results."""

    MISSING = "missing"
    """No line."""
    DOUBLE = "double"
    """The line twice."""
    FOREIGN = "foreign"
    """A further line, with a key that no row has."""
    WRONG_DIM = "wrong-dim"
    NULL = "null"
    NAN = "nan"
    BROKEN_JSON = "broken-json"
    """The first half of the line."""


class CallFault(enum.StrEnum):
    """A fault of a call about files or jobs, besides HTTP statuses."""

    RESET = "reset"
    """The connection is reset before the call is carried out."""
    HANG = "hang"
    """The call is not carried out and never answered."""
    LOST = "lost"
    """The call is carried out, and then the connection is reset."""
    LOST_HANG = "lost-hang"
    """The call is carried out and never answered."""
    BROKEN_JSON = "broken-json"
    """The call is carried out, and half of its JSON arrives."""
    CUT = "cut"
    """A transfer that breaks off: half of a piece arrives, or half of a download."""
    STALL = "stall"
    """A transfer of which half arrives, and then nothing happens."""


class CallKind(enum.StrEnum):
    """A kind of call about files or jobs."""

    START = "start"
    """The first step of an upload."""
    UPLOAD = "upload"
    """Any further step of an upload."""
    GET_FILE = "get-file"
    LIST_FILES = "list-files"
    DELETE_FILE = "delete-file"
    DOWNLOAD = "download"
    CREATE = "create"
    GET = "get"
    LIST = "list"
    CANCEL = "cancel"
    DELETE = "delete"


class KeyForm(enum.StrEnum):
    """Where a result has its key."""

    AS_INPUT = "as-input"
    KEY = "key"
    METADATA = "metadata"
    """`metadata.key`."""


class VectorForm(enum.StrEnum):
    """Where a result has its vector."""

    EMBEDDING = "embedding"
    """`response.embedding.values`."""
    EMBEDDINGS = "embeddings"
    """`response.embeddings[0].values`."""


class TokenForm(enum.StrEnum):
    """How a result writes its `tokenCount`."""

    NUMBER = "number"
    STRING = "string"
    NONE = "none"


class BadLine(enum.StrEnum):
    """What a line that is no valid request does. The service's documentation does not say."""

    ROW = "row"
    """It gets an error of its own."""
    JOB = "job"
    """It fails the job."""


class OutputIn(enum.StrEnum):
    """Which part of a finished operation names the results."""

    BOTH = "both"
    METADATA = "metadata"
    RESPONSE = "response"


class InputErrors(enum.StrEnum):
    """What an invalid input of a job on Vertex AI fails. The documentation does not say."""

    CREATE = "create"
    JOB = "job"


PAGE = "page-"
"""Before a status: an HTML page instead of JSON, as a proxy sends it."""

ANY_CALL = "*"
"""In a fault: calls of every kind."""


@dataclasses.dataclass(frozen=True)
class BatchSettings:
    """Times, limits, forms and faults of files and batch jobs; limits of 0 mean no limit.

    A step of `outcomes` is an outcome, with its own time after an `@`: `failed@5`. A step of
    `call_script` is KIND:FAULT, and `ok` as a fault passes. The first calls of a kind take the
    steps of their kind, in order. `call_faults` has (kind, fault, share).
    """

    folder: str | None = None
    """Where uploads and results are; None: a folder that is deleted at the end."""

    seconds: float = 0.0
    pending_share: float = 0.25
    cancel_seconds: float = 0.0
    list_lag_s: float = 0.0
    """The age of a job from which the list has it."""
    expire_s: float = 2 * DAY_S
    file_expire_s: float = 2 * DAY_S
    result_expire_s: float = 42 * DAY_S

    file_bytes: int = 2 << 30
    inline_bytes: int = 20 << 20
    upload_granularity: int = 256 << 10
    mime_types: str = ""
    """The MIME types that an upload may have, separated by commas; empty: any."""
    upload_needs_key: bool = False
    """403 for the further steps of an upload without a key."""
    final_query_names_file: bool = False
    """A query of a finished upload is answered with the file."""
    missing_file: int = 403
    """The status for a file that does not exist."""
    delete_results: bool = True
    """If not, 400 for the deletion of a file whose id has more than 40 characters: a result."""
    download_ranges: bool = True

    jobs: int = 100
    enqueued_tokens: int = 0
    quota_details: bool = False

    state_prefix: str = "BATCH_STATE_"
    output_in: OutputIn = OutputIn.BOTH
    key_form: KeyForm = KeyForm.AS_INPUT
    vector_form: VectorForm = VectorForm.EMBEDDING
    token_form: TokenForm = TokenForm.NUMBER
    echo_request: bool = False
    shuffle: bool = True
    http_codes: bool = False
    bad_line: BadLine = BadLine.ROW
    bill_cancelled: bool = False
    needs_input: bool = True
    """A job fails if its file is deleted or expires before it runs."""

    buckets: tuple[tuple[str, str], ...] = ()
    """Vertex AI: pairs of a bucket, or `*`, and its folder or the URL of its server."""
    vertex_rows: int = 1_000_000
    vertex_bytes: int = 1 << 30
    vertex_expire_s: float = 3 * DAY_S
    vertex_files: int = 2
    """The result files of a job."""
    vertex_input_errors: InputErrors = InputErrors.JOB
    vertex_partial_state: bool = True
    """A job with failed rows is PARTIALLY_SUCCEEDED."""

    outcomes: tuple[str, ...] = ()
    outcome_shares: tuple[tuple[JobOutcome, float], ...] = ()
    row_faults: tuple[tuple[str, float], ...] = ()
    call_faults: tuple[tuple[str, str, float], ...] = ()
    call_script: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (
            "seconds", "cancel_seconds", "expire_s", "file_expire_s", "result_expire_s",
            "vertex_expire_s", "list_lag_s",
        ):  # fmt: skip
            if getattr(self, name) < 0:
                raise ConfigError(f"{_flag(name)} {getattr(self, name):g}: use 0 or more")
        for name in (
            "file_bytes", "inline_bytes", "upload_granularity", "jobs", "vertex_rows",
            "vertex_bytes", "vertex_files",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ConfigError(f"{_flag(name)} {getattr(self, name)}: use 1 or more")
        if not 0 <= self.pending_share <= 1:
            raise ConfigError(f"--batch-pending-share {self.pending_share:g}: use 0 to 1")
        if not is_status(str(self.missing_file)):
            raise ConfigError(f"--batch-missing-file {self.missing_file}: use 403 or 404")
        if self.enqueued_tokens < 0:
            raise ConfigError(f"--batch-enqueued-tokens {self.enqueued_tokens}: use 0 or more")
        self._check_faults()

    def _check_faults(self) -> None:
        for step in self.outcomes:
            read_outcome(step, self.seconds)
        _check_shares("--batch-outcome", self.outcome_shares)
        _check_shares("--batch-row-fault", self.row_faults)
        for fault, _ in self.row_faults:
            if fault not in set(RowFault) and not is_status(fault):
                raise ConfigError(
                    f"--batch-row-fault {fault}: use an HTTP status or {', '.join(RowFault)}"
                )
        for kind, fault, share in self.call_faults:
            _check_call(f"--batch-call-fault {kind}:{fault}:{share:g}", kind, fault)
            _check_shares("--batch-call-fault", [(f"{kind}:{fault}", share)])
        for step in self.call_script:
            kind, _, fault = step.partition(":")
            if fault != "ok":
                _check_call(f"--batch-script {step}", kind, fault)


def read_outcome(step: str, seconds: float) -> tuple[JobOutcome, float]:
    """Return the outcome and the seconds that a step names; `seconds` if it names none."""
    name, at, own = step.partition("@")
    try:
        return JobOutcome(name), float(own) if at else seconds
    except ValueError:
        raise ConfigError(
            f"--batch-outcomes {step}: use {', '.join(JobOutcome)}, with seconds such as failed@5"
        ) from None


def is_status(fault: str) -> bool:
    """Return whether a fault is the HTTP status of an error."""
    return fault.isdecimal() and 300 <= int(fault) <= 599


def is_answer(fault: str) -> bool:
    """Return whether a fault is an answer: a status, or an HTML page such as `page-403`."""
    page = fault.removeprefix(PAGE)
    return is_status(fault) or (page != fault and page.isdecimal() and 200 <= int(page) <= 599)


def lost_status(fault: str) -> str:
    """Return the status of `lost-504`: carried out, and answered with an error; else ""."""
    status = fault.removeprefix(f"{CallFault.LOST}-")
    return status if status != fault and is_answer(status) else ""


def _check_call(flag: str, kind: str, fault: str) -> None:
    if kind != ANY_CALL and kind not in set(CallKind):
        raise ConfigError(f"{flag}: use a call of {', '.join([ANY_CALL, *CallKind])}")
    if fault not in set(CallFault) and not is_answer(fault) and not lost_status(fault):
        raise ConfigError(
            f"{flag}: use an HTTP status such as 503, page-STATUS, lost-STATUS, or "
            f"{', '.join(CallFault)}"
        )


def _check_shares(flag: str, shares: Iterable[tuple[str, float]]) -> None:
    total = 0.0
    for name, share in shares:
        if not 0 <= share <= 1:
            raise ConfigError(f"{flag} {name}:{share:g}: use a share of 0 to 1")
        total += share
    if total > 1 + 1e-9:
        raise ConfigError(f"{flag}: the shares add up to {total:g}: at most 1")


def _flag(name: str) -> str:
    return "--batch-" + name.replace("_", "-")
