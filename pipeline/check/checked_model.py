"""A model while it is checked: its first vectors, which many probes need, and what was found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from bulkembed.pipeline.check.probe_calls import ProbeCalls, plain_text, text_of_probe
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.errors import CallError
from bulkembed.schemas.service_check import ErrorWords, ModelFacts, ServiceFacts
from bulkembed.transforms.clients.decoding import Answer
from bulkembed.transforms.clients.requests import RequestWriter
from bulkembed.transforms.core.vectors import Vector

T = TypeVar("T")

TEXTS = ("The cat sat on the mat.", "Shares fell on Monday.", "Ein Satz über Äpfel 🍏")
TITLE_OF_PROBE = "House pets"
AGAIN, TITLED, PLAIN = 3, 4, 5
"""The places of other forms of the first text in the first request: once more, with a title, and
without a prefix."""
SAME = 0.998
"""The cosine from which two vectors count as equal. A service may answer the same text with
slightly different numbers; another task, title or text changes more."""


class ProbeResult(NamedTuple):
    """What a probe found, and whether it is as bulkembed assumes."""

    text: str
    as_assumed: bool


class MissingVectors(Exception):
    """A probe needs what another probe did not get, such as the first vectors."""


@dataclasses.dataclass
class FactNotes:
    """The facts that probes note, until they become `ServiceFacts`."""

    service: dict[str, Any] = dataclasses.field(default_factory=dict)
    models: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    errors: dict[str, ErrorWords] = dataclasses.field(default_factory=dict)

    def facts(self) -> ServiceFacts:
        """Return what was noted."""
        models = {name: ModelFacts(**found) for name, found in self.models.items()}
        return ServiceFacts(**self.service, errors=dict(self.errors), models=models)


class CheckedModel:
    """One model of a service.

    Args:
        calls: the service.
        model: the name of a model of the registry.
        notes: gets the facts.
    """

    def __init__(self, calls: ProbeCalls, model: str, notes: FactNotes) -> None:
        self.calls, self.model = calls, model
        self.embedding = EmbeddingConfig(calls.service.identity, model)
        self.spec = self.embedding.spec
        self._notes = notes
        self._once: dict[str, object] = {}

    @property
    def dims(self) -> tuple[int, ...]:
        """The dims to try, besides the default."""
        return self.spec.advised_dims or ((256,) if self.spec.min_dim <= 256 else ())

    def first(self) -> Answer:
        """Return the vectors of TEXTS, and of other forms of the first one.

        Raises:
            CallError: the first caller gets the reason.
            MissingVectors: there are none, and a probe before has said why.
        """
        return self._only_once("first", self._ask_first)

    def short(self, dim: int) -> Vector:
        """Return the vector of the first text with fewer dimensions; raises as `first`."""
        return self._only_once(f"dim {dim}", lambda: self._ask_short(dim))

    def writer(self, **changes: Any) -> RequestWriter:
        """Return what writes requests as a job does, with some settings changed."""
        return RequestWriter(self.calls.service, dataclasses.replace(self.embedding, **changes))

    def note(self, **facts: Any) -> None:
        """Note facts about the service."""
        self._notes.service.update(facts)

    def note_model(self, **facts: Any) -> None:
        """Note facts about this model."""
        self._notes.models.setdefault(self.model, {}).update(facts)

    def note_error(self, rule: str, error: CallError, model: str | None = None) -> None:
        """Note the words of a rejection that a rule should cover."""
        words = error.service_message.replace(model or self.model, "{model}")
        if error.http_status is not None and words:
            self._notes.errors[rule] = ErrorWords(error.http_status, words)

    def _ask_first(self) -> Answer:
        first = TEXTS[0]
        contents = [text_of_probe(self.embedding, text) for text in (*TEXTS, first)]
        contents.append(text_of_probe(self.embedding, first, TITLE_OF_PROBE))
        if self.spec.prefixes is not None:
            contents.append(plain_text(first))
        try:
            answer = self.calls.embed(self.embedding, contents)
        except CallError as error:
            if error.code == "model_gone":
                self.note_model(served=False)
            raise
        self.note_model(served=True)
        return answer

    def _ask_short(self, dim: int) -> Vector:
        embedding = dataclasses.replace(self.embedding, dim=dim)
        content = text_of_probe(embedding, TEXTS[0])
        vector: Vector = self.calls.embed(embedding, [content]).vectors[0]
        return vector

    def _only_once(self, name: str, ask: Callable[[], T]) -> T:
        if name not in self._once:
            self._once[name] = MissingVectors()
            self._once[name] = ask()
        found: Any = self._once[name]
        if isinstance(found, MissingVectors):
            raise found
        answer: T = found
        return answer


def cosine(one: Vector, other: Vector) -> float:
    """Return the cosine of two vectors."""
    lengths = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float(np.dot(one.astype(np.float64), other.astype(np.float64))) / lengths


def expected(error: CallError | None, rule: str, words: str) -> ProbeResult:
    """Return what is found of a request that a rule of rejections should cover."""
    return ProbeResult(words, error is not None and error.code == rule)
