"""Rows of a pipeline to vectors: the plain twin of the stage that embeds them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import (
    BadAnswer,
    BulkEmbedError,
    CallError,
    JobRefused,
    QuotaExceeded,
    Unavailable,
)
from bulkembed.schemas.stop import Stop, StopReason
from bulkembed.transforms.calls.caller import counted_tokens
from bulkembed.transforms.calls.embedder import Embedder
from bulkembed.transforms.clients.decode import Answer
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.vectors import NO_MEAN, Vector, mean_vector, to_unit_length
from bulkembed.transforms.units.contents import DistinctContents, Passage, why_blank


class RowText(NamedTuple):
    """What is sent for a row, or why nothing can be."""

    title: str | None
    text: str | None
    bad: tuple[DeadCode, str] | None = None


class GivenUp(NamedTuple):
    """Why a row has no vector."""

    code: DeadCode
    message: str
    http_status: int | None = None
    attempts: int = 0


@dataclasses.dataclass(slots=True)
class TextFates:
    """The fate of each distinct text; the sink that the caller writes to."""

    normalize: bool
    of_item: dict[int, Vector | GivenUp] = dataclasses.field(default_factory=dict)
    texts: int = 0
    tokens: int = 0

    def embedded(self, items: Sequence[Content], answer: Answer, attempts: int) -> None:
        """Writes down the vectors of one answered call."""
        vectors = to_unit_length(answer.vectors) if self.normalize else answer.vectors
        for item, vector in zip(items, vectors, strict=True):
            self.of_item[item.index] = vector
        self.texts += len(items)
        self.tokens += counted_tokens(items, answer)

    def dead(self, item: Content, code: DeadCode, error: CallError, attempts: int) -> None:
        """Writes down that a text is given up on."""
        self.of_item[item.index] = GivenUp(code, error.message, error.http_status, attempts)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RowFates:
    """What became of rows, in their order; `texts` were sent, with `tokens`, `repeated` were not.

    A vector is a view into its call's answer, and rows of one text share one.
    """

    rows: list[Vector | GivenUp]
    texts: int
    tokens: int
    repeated: int


async def embed_texts(embedder: Embedder, rows: Sequence[RowText]) -> RowFates:
    """The vector of each row, or why it has none; equal texts are sent once.

    Raises:
        CallError: the service refuses every call, is down, or the day's quota is spent.
    """
    embedding = embedder.config.embedding
    distinct = DistinctContents(embedding, embedder.estimator)
    passages = [_passages_or_reason(row, distinct) for row in rows]
    sink = TextFates(embedding.normalize)
    await embedder.embed(distinct.items, sink)
    if len(sink.of_item) < len(distinct.items):
        raise _error_of(embedder.stop.stop)
    fates = [one if isinstance(one, GivenUp) else _fate(one, sink.of_item) for one in passages]
    sent = sum(0 if isinstance(one, GivenUp) else len(one) for one in passages)
    return RowFates(fates, sink.texts, sink.tokens, sent - len(distinct.items))


def _fate(passages: tuple[Passage, ...], of_item: dict[int, Vector | GivenUp]) -> Vector | GivenUp:
    """The vector of a row's text, the mean of its passages' where it has several."""
    fates = [of_item[passage.item] for passage in passages]
    vectors = [fate for fate in fates if not isinstance(fate, GivenUp)]
    if len(fates) == 1 or len(vectors) < len(fates):
        return next((fate for fate in fates if isinstance(fate, GivenUp)), fates[0])
    weights = [passage.end - passage.start for passage in passages]
    mean = mean_vector(np.stack(vectors), range(len(vectors)), weights)
    return GivenUp(DeadCode.NO_MEAN, NO_MEAN) if mean is None else mean


def _passages_or_reason(row: RowText, distinct: DistinctContents) -> tuple[Passage, ...] | GivenUp:
    if row.bad is not None:
        return GivenUp(*row.bad)
    why = why_blank(row.text)
    if why is not None or row.text is None:
        return GivenUp(DeadCode.BLANK_TEXT, why or "the text is null")
    return distinct.add(row.title, row.text)


_ERRORS: dict[StopReason, type[CallError]] = {
    StopReason.REFUSED: JobRefused,
    StopReason.USELESS: BadAnswer,
    StopReason.DAY_SPENT: QuotaExceeded,
}


def _error_of(stop: Stop | None) -> BulkEmbedError:
    """What a stage without a run of its own raises where a run would end."""
    if stop is None:
        return Unavailable("a call was left undone: the service refuses it for its quota")
    return _ERRORS.get(stop.reason, Unavailable)(stop.message)
