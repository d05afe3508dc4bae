"""The settings of an emulator."""

from __future__ import annotations

import dataclasses
import enum

from bulkembed.emulator.batch_settings import PAGE, BatchSettings
from bulkembed.emulator.media_rules import MediaRules, TokenDetails, VertexBatch
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.models import (
    MAX_BODY_BYTES,
    MAX_TEXTS,
    PREDICT_TEXTS,
    PREDICT_TOKENS,
    ModelSpec,
)
from bulkembed.schemas.service_check import ErrorWords


class OverLimit(enum.StrEnum):
    """What a model with prefixes does with a text over its limit.

    What the service does is not documented.
    """

    TRUNCATE = "truncate"
    REFUSE = "refuse"


class QuotaDetails(enum.StrEnum):
    """How many details a 429 has."""

    FULL = "full"
    """QuotaFailure with its value, RetryInfo, Help."""
    NO_VALUE = "no-value"
    """As full, without the value of the limit."""
    ZERO_DELAY = "zero-delay"
    """As full, with the delay "0s", which the service was seen to send."""
    NONE = "none"
    """No details at all."""


class Fault(enum.StrEnum):
    """A fault of a call."""

    TOO_MANY = "429"
    INTERNAL = "500"
    UNAVAILABLE = "503"
    DEADLINE = "504"
    RESET = "reset"
    """The connection is reset without an answer."""
    HANG = "hang"
    """The call is accepted and never answered."""
    SHORT = "short"
    """One embedding too few."""
    WRONG_DIM = "wrong-dim"
    """Each vector has one dimension too few."""
    NULL = "null"
    """A vector whose values are null."""
    NAN = "nan"
    """A vector whose last number is NaN, as Python's json module writes it."""
    BROKEN_JSON = "broken-json"
    """The answer's first half."""


OK = "ok"
"""In a script of faults: a call that passes."""


@dataclasses.dataclass(frozen=True, slots=True)
class ScriptedError:
    """A step of a script with an HTTP status, answered as Google's JSON or as a page."""

    status: int
    page: bool = False

    def __str__(self) -> str:
        return f"{PAGE if self.page else ''}{self.status}"


def read_step(step: str) -> Fault | ScriptedError | None:
    """Return the fault that a step of a script names; None for a call that passes.

    Raises:
        ValueError: it names no fault.
    """
    if step == OK:
        return None
    if step in set(Fault):
        return Fault(step)
    number = step.removeprefix(PAGE)
    page = number != step
    if not number.isdecimal() or not (200 if page else 300) <= int(number) <= 599:
        raise ValueError(step)
    return ScriptedError(int(number), page)


Outage = tuple[float, float]
"""Begin and end, in seconds after the start."""


@dataclasses.dataclass(frozen=True, slots=True)
class EmulatorSettings:
    """All settings. The defaults follow the service's rules, without quotas.

    Limits of 0 mean no limit. `retired` has the names of models, or `("all",)` for every model
    past its shut-down date. `extra_models` has pairs of a name, which the registry does not have,
    and a dim. `pretty` means that `prettyPrint=false` is ignored; a query parameter in
    `unknown_parameters` is rejected.

    No option has the settings of the last paragraph, which imitate a service (`as_found`): entries
    that replace those of the registry, names of models that reject long texts, whether blank texts
    are embedded, and the words of rejections by their `ApiError.kind`.
    """

    host: str = "127.0.0.1"
    port: int = 0

    api_key: str | None = dataclasses.field(default=None, repr=False)
    retired: tuple[str, ...] = ()
    extra_models: tuple[tuple[str, int], ...] = ()
    long_text: OverLimit = OverLimit.TRUNCATE
    usage_metadata: bool = True
    max_texts: int = MAX_TEXTS
    max_body_bytes: int = MAX_BODY_BYTES
    token_details: TokenDetails = TokenDetails.BY_SERVICE
    vertex_batch: VertexBatch = VertexBatch.SERVE
    vertex_batch_texts: int = MAX_TEXTS
    vertex_predict_texts: int = PREDICT_TEXTS
    vertex_predict_tokens: int = PREDICT_TOKENS

    rpm: int = 0
    tpm: int = 0
    rpd: int = 0
    rpm_counts_calls: bool = False
    no_access: bool = False
    charge_failed: bool = False
    free_tier: bool = False
    quota_details: QuotaDetails = QuotaDetails.FULL
    clock_offset_s: float = 0.0

    latency_ms: float = 0.0
    jitter_ms: float = 0.0
    slow_share: float = 0.0
    slow_ms: float = 2000.0
    faults: tuple[tuple[Fault, float], ...] = ()
    script: tuple[str, ...] = ()
    outages: tuple[Outage, ...] = ()
    poison: str | None = None
    sick: str | None = None
    seed: int = 0

    pretty: bool = False
    gzip: bool = True
    unknown_parameters: tuple[str, ...] = ()
    canned: bool = False

    models: tuple[ModelSpec, ...] = ()
    refuse_long: tuple[str, ...] = ()
    blank_texts: bool = False
    error_words: tuple[tuple[str, ErrorWords], ...] = ()

    media: MediaRules = dataclasses.field(default_factory=MediaRules)
    batch: BatchSettings = dataclasses.field(default_factory=BatchSettings)

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_faults()
        for start_s, end_s in self.outages:
            if not 0 <= start_s < end_s:
                raise ConfigError(f"--outage {start_s:g}-{end_s:g}: use FROM-UNTIL in seconds")
        for name, dim in self.extra_models:
            if not name or "/" in name or ":" in name or dim < 1:
                raise ConfigError(f"--extra-model {name}:{dim}: use NAME:DIM with a dim from 1")
        if "" in (self.api_key, self.poison, self.sick):
            raise ConfigError(
                "An empty --api-key, --poison or --sick would match everything. Remove it."
            )

    def _check_numbers(self) -> None:
        for name in ("rpm", "tpm", "rpd", "latency_ms", "jitter_ms", "slow_ms"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{_flag(name)} {getattr(self, name):g}: use 0 or more")
        for name in (
            "max_texts", "max_body_bytes", "vertex_batch_texts",
            "vertex_predict_texts", "vertex_predict_tokens",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ConfigError(f"{_flag(name)} {getattr(self, name)}: use 1 or more")
        if not 0 <= self.port <= 65_535:
            raise ConfigError(f"--port {self.port}: use 0 (any free one) to 65535")

    def _check_faults(self) -> None:
        shares = [("slow", self.slow_share), *self.faults]
        for name, share in shares:
            if not 0 <= share <= 1:
                raise ConfigError(f"the share of {name} is {share:g}: use 0 to 1")
        total = sum(share for _, share in self.faults)
        if total > 1 + 1e-9:
            raise ConfigError(f"the shares of all faults add up to {total:g}: at most 1")
        for step in self.script:
            try:
                read_step(step)
            except ValueError:
                known = ", ".join(sorted({OK, *Fault}))
                raise ConfigError(
                    f"--script {step}: use any of {known}, an HTTP status such as 409, or "
                    f"{PAGE}STATUS for an HTML page"
                ) from None


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
