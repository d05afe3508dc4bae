"""What `bulkembed check` found of a service, as it is kept in a file.

`bulkembed emulator --as FILE` reads the same file, and behaves as the service did.
"""

from __future__ import annotations

import dataclasses
import enum

from bulkembed.schemas.models import UnitLength

FORMAT = 1


class Verdict(enum.StrEnum):
    """How what was found compares with what bulkembed assumes."""

    AS_ASSUMED = "as assumed"
    DIFFERS = "differs"
    NOT_CHECKED = "not checked"
    """The service gave no answer, or one about something else, such as the quota."""


@dataclasses.dataclass(frozen=True, slots=True)
class CheckedAssumption:
    """One line of the table."""

    name: str
    model: str
    """The model with which it was tried."""
    assumed: str
    found: str
    verdict: Verdict


@dataclasses.dataclass(frozen=True, slots=True)
class ErrorWords:
    """How a service rejects a request."""

    status: int
    message: str
    """With `{model}` in place of the model's name."""


@dataclasses.dataclass(frozen=True, slots=True)
class ModelFacts:
    """What was found of a model; None: it was not found out."""

    served: bool | None = None
    unit_length: UnitLength | None = None
    task_field: bool | None = None
    """Whether the request's `taskType` changes a vector."""
    cuts_long: bool | None = None
    """Whether a text over the model's limit is cut; if not, it is rejected."""
    takes_media: bool | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ServiceFacts:
    """What was found of a service and an emulator can do as well; None: it was not found out."""

    vertexai: bool = False
    """Whether the service was Vertex AI."""
    max_texts: int | None = None
    """The most texts of a request that the service names."""
    max_body_bytes: int | None = None
    """The most bytes of a body that the service names."""
    takes_large_bodies: bool | None = None
    """Whether a body over the documented limit is accepted."""
    takes_blank_texts: bool | None = None
    counts_tokens: bool | None = None
    """Whether answers have `usageMetadata`, or counts for each text."""
    token_details: tuple[str, ...] | None = None
    """The fields of `usageMetadata` with the tokens by modality."""
    takes_pretty_print: bool | None = None
    """Whether the parameter `prettyPrint` is accepted."""
    obeys_pretty_print: bool | None = None
    """Whether `prettyPrint=false` gives an answer without indentation."""
    batches_texts: bool | None = None
    """Whether a request may have several texts."""
    takes_batch_jobs: bool | None = None
    errors: dict[str, ErrorWords] = dataclasses.field(default_factory=dict)
    """By the name of the rule in `clients.classification.RULES` that should cover them."""
    models: dict[str, ModelFacts] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class NamedLimit:
    """A limit that a 429 named."""

    quota_id: str | None
    value: int | None
    retry_delay_s: float | None
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class CheckReport:
    """The content of the file."""

    format: int
    bulkembed_version: str
    checked_at: str
    """In ISO 8601, UTC."""
    service: str
    api_version: str | None
    requests: int
    """How many were sent."""
    assumptions: tuple[CheckedAssumption, ...]
    limits: tuple[NamedLimit, ...]
    facts: ServiceFacts

    def count(self, verdict: Verdict) -> int:
        """Return how many assumptions have a verdict."""
        return sum(one.verdict is verdict for one in self.assumptions)
