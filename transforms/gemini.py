"""What vectors a stage of one's own pipeline is to make, and how fast."""

from __future__ import annotations

import dataclasses
import enum
from typing import TypeVar

from schemas.embedding import EmbeddingConfig, LongText, ServiceConfig
from schemas.errors import ConfigError
from schemas.job import CallSettings, EmbedderConfig
from schemas.models import DEFAULT_MODEL, TaskType, bare_name
from schemas.quota import QuotaLimits
from transforms.clients.service import service_from
from transforms.core.limits import limits_for

Word = TypeVar("Word", bound=enum.StrEnum)


@dataclasses.dataclass(frozen=True, slots=True)
class Gemini:
    """Which vectors, of which service, under which quota; as the flags of `bulkembed run`.

    Checks itself when a stage is made of it.  Pickles; names where the key is, never holds it.
    `limits` None asks for those of Google's first paid tier, as the command does; they hold for all
    stages and processes of this host.
    """

    model: str = DEFAULT_MODEL
    task_type: TaskType | str = TaskType.RETRIEVAL_DOCUMENT
    dim: int | None = None
    normalize: bool = True
    long_text: LongText | str = LongText.TRUNCATE
    passage_tokens: int | None = None
    passage_overlap: int | None = None
    service: ServiceConfig = dataclasses.field(default_factory=service_from)
    limits: QuotaLimits | None = None
    max_in_flight: int = 16
    call_deadline_s: float = 600.0
    quota_name: str | None = None
    rate_service: str | None = None

    def config(self, *, has_titles: bool = False) -> EmbedderConfig:
        """The checked configuration.

        Raises:
            ConfigError: the model does not take what is asked of it, or a word is unknown.
        """
        if self.long_text == LongText.STOP:
            raise ConfigError(
                "long_text 'stop' is for whole jobs: give 'dead-letter', and leave "
                "with_exception_handling() out, which fails the pipeline at such a text"
            )
        if self.long_text == LongText.PASSAGES:
            raise ConfigError(
                "long_text 'passages' is for whole jobs, since it makes several rows of one: give "
                "'mean', or cut the texts before this stage"
            )
        embedding = EmbeddingConfig(
            service=self.service.identity,
            model=self.model,
            task_type=_member(TaskType, "task_type", self.task_type),
            dim=self.dim,
            normalize=self.normalize,
            long_text=_member(LongText, "long_text", self.long_text),
            has_titles=has_titles,
            passage_tokens=self.passage_tokens,
            passage_overlap=self.passage_overlap,
        )
        limits = self.limits or limits_for(self.service.kind, bare_name(self.model))
        calls = CallSettings(
            limits=limits,
            max_in_flight=self.max_in_flight,
            call_deadline_s=self.call_deadline_s,
            quota_name=self.quota_name,
            rate_service=self.rate_service,
        )
        return EmbedderConfig(self.service, embedding, calls)


def _member(kind: type[Word], name: str, value: str) -> Word:
    try:
        return kind(value)
    except ValueError:
        allowed = ", ".join(kind)
        raise ConfigError(f"{name} {value!r}: give one of {allowed}") from None
