"""Embed the rows of a pipeline: plain functions for the stage that embeds rows."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.errors import (
    BadAnswer,
    BulkEmbedError,
    CallError,
    JobRejected,
    QuotaExceeded,
    Unavailable,
)
from bulkembed.schemas.media_settings import MediaSettings
from bulkembed.schemas.models import MEDIA_MODEL
from bulkembed.schemas.stop import Stop, StopReason
from bulkembed.transforms.calls.embedder import Embedder
from bulkembed.transforms.clients.decoding import Answer
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.vectors import NO_MEAN, Vector
from bulkembed.transforms.inputs.row_parts import RowPart
from bulkembed.transforms.inputs.rows import BadValue
from bulkembed.transforms.units.distinct_contents import (
    DistinctContents,
    Passage,
    RowFailure,
    why_blank,
)
from bulkembed.transforms.units.media_rows import FetchAhead, MediaRows, is_media
from bulkembed.transforms.units.text_vectors import AnswerRecorder, TextVectors


class RowText(NamedTuple):
    """The text of a row, or why it has none that can be sent."""

    title: str | None
    text: str | None
    bad: tuple[DeadCode, str] | None = None
    parts: tuple[RowPart, ...] = ()
    """What is sent instead, if `content` names media."""
    piece: int | None = None
    """Which piece of its long media is sent; None: all of them."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class EmbeddedRows:
    """The results of rows, in their order, and the counts of their texts.

    Vectors are views into one matrix; rows of equal texts share one.
    """

    rows: list[Vector | RowFailure]
    texts: int
    """How many texts were sent."""
    tokens: int
    repeated: int
    """How many texts were not sent, because another row has the same text."""


async def embed_texts(
    embedder: Embedder, rows: Sequence[RowText], fetch: FetchAhead | None = None
) -> EmbeddedRows:
    """Return the vector of each row, or why it has none; equal texts are sent once.

    Args:
        embedder: sends the texts.
        rows: their texts, or their parts.
        fetch: reads media that is not in the rows; None for a stage of texts.

    Raises:
        CallError: the service rejects every request, is down, or the day's quota is used up.
    """
    embedding = embedder.config.embedding
    distinct = DistinctContents(embedding, embedder.estimator)
    if fetch is None or not any(is_media(row.parts) for row in rows):
        passages = [_passages_or_failure(row, distinct) for row in rows]
    else:
        media = MediaRows(distinct, embedding.media or MediaSettings(), fetch)
        passages = await asyncio.to_thread(_media_passages, rows, media)
    wanted = {one.item for row in passages if not isinstance(row, RowFailure) for one in row}
    receiver = _TextResults(embedding, len(distinct.items), len(wanted))
    await embedder.embed([distinct.items[index] for index in sorted(wanted)], receiver)
    if not receiver.is_complete:
        raise _error_of(embedder.stop.stop)
    results = [one if isinstance(one, RowFailure) else receiver.result(one) for one in passages]
    sent = sum(0 if isinstance(one, RowFailure) else len(one) for one in passages)
    counts = receiver.answers.counts(repeated=sent - len(wanted))
    return EmbeddedRows(results, counts.texts, counts.tokens, counts.repeated)


class _TextResults:
    """The result of each distinct text; the receiver of the caller's results."""

    def __init__(self, embedding: EmbeddingConfig, texts: int, wanted: int) -> None:
        self._wanted = wanted
        self.answers = AnswerRecorder(embedding)
        self._vectors = TextVectors(texts)
        self._failed: dict[int, RowFailure] = {}

    @property
    def is_complete(self) -> bool:
        """Whether each wanted text has a vector or has failed."""
        return int(self._vectors.present.sum()) + len(self._failed) == self._wanted

    def embedded(self, items: Sequence[Content], answer: Answer, attempts: int) -> None:
        """Store the vectors of one answered request."""
        vectors, truncated = self.answers.record(items, answer, attempts)
        self._vectors.put([item.index for item in items], vectors, truncated)

    def dead(self, item: Content, code: DeadCode, error: CallError, attempts: int) -> None:
        """Note that a text failed."""
        self._failed[item.index] = RowFailure(code, error.message, error.http_status, attempts)

    def result(self, passages: tuple[Passage, ...]) -> Vector | RowFailure:
        """Return the vector of a row: that of its text, or the mean of its passages."""
        for passage in passages:
            if passage.item in self._failed:
                return self._failed[passage.item]
        if len(passages) == 1:
            vector: Vector = self._vectors.matrix[passages[0].item]
            return vector
        mean = self._vectors.mean(passages)
        return RowFailure(DeadCode.NO_MEAN, NO_MEAN) if mean is None else mean


_TEXTS_ONLY = (
    f"the content has media or several parts, but this stage takes texts only. Use model "
    f"{MEDIA_MODEL!r} with long_text='truncate'"
)


def _passages_or_failure(
    row: RowText, distinct: DistinctContents
) -> tuple[Passage, ...] | RowFailure:
    if row.bad is not None:
        return RowFailure(*row.bad)
    if is_media(row.parts):
        return RowFailure(DeadCode.UNSUPPORTED_TYPE, _TEXTS_ONLY)
    text = str(row.parts[0]) if row.parts else row.text
    why = why_blank(text)
    if why is not None or text is None:
        return RowFailure(DeadCode.BLANK_TEXT, why or "the text is null")
    return distinct.add(row.title, text)


def _media_passages(
    rows: Sequence[RowText], media: MediaRows
) -> list[tuple[Passage, ...] | RowFailure]:
    found: list[tuple[Passage, ...] | RowFailure] = []
    contents = media.add([() if row.bad is not None else row.parts for row in rows])
    for row, content in zip(rows, contents, strict=True):
        if row.bad is not None:
            found.append(RowFailure(*row.bad))
        elif content is None:
            found.append(RowFailure(DeadCode.BLANK_TEXT, "every part is null or empty"))
        elif isinstance(content, BadValue):
            found.append(RowFailure(content.code, str(content)))
        elif row.piece is None:
            found.append(content.passages)
        else:
            piece = content.passages[row.piece : row.piece + 1]
            found.append(piece or RowFailure(DeadCode.NOT_FOUND, "its file has no such piece"))
    return found


_ERRORS: dict[StopReason, type[CallError]] = {
    StopReason.REJECTED: JobRejected,
    StopReason.USELESS: BadAnswer,
    StopReason.DAY_SPENT: QuotaExceeded,
}


def _error_of(stop: Stop | None) -> BulkEmbedError:
    """Return the error that a stage without a run raises where a run would stop."""
    if stop is None:
        return Unavailable("a request was not sent: the quota of the service does not allow it")
    return _ERRORS.get(stop.reason, Unavailable)(stop.message)
