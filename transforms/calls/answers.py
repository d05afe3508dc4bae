"""The answers to the calls of a unit, or of texts that units share: kept, and counted."""

from __future__ import annotations

from collections.abc import Sequence

from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.live import LiveCounts
from bulkembed.schemas.units import CallCounts
from bulkembed.transforms.clients.decode import Answer
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.vectors import Matrix, to_unit_length
from bulkembed.transforms.dataset.kept_answers import AnswerWriter


class Answers:
    """Takes answers in.  `hashes[i]` is the text hash of the item of index i."""

    def __init__(
        self, embedding: EmbeddingConfig, hashes: Sequence[bytes], kept: AnswerWriter
    ) -> None:
        self._embedding = embedding
        self._hashes = hashes
        self._kept = kept
        self._calls = self._retried = self._texts = self._tokens = 0

    def take(
        self, items: Sequence[Content], answer: Answer, attempts: int
    ) -> tuple[Matrix, list[bool | None]]:
        """Keeps one answer in the kept.

        Returns:
            The vectors as they are to be written, (n, dim) in the order of the items, and for each
            whether the service cut its text; None where nobody knows.

        Raises:
            OutputError: the kept cannot be written.
        """
        vectors = answer.vectors
        if self._embedding.normalize:
            vectors = to_unit_length(vectors)
        flags = answer.truncated or (None,) * len(items)
        most = self._embedding.spec.max_tokens
        truncated = [
            item.is_cut or (False if flag is None and item.token_bound <= most else flag)
            for item, flag in zip(items, flags, strict=True)
        ]
        self._kept.append([self._hashes[item.index] for item in items], vectors, truncated)
        self._calls += 1
        self._retried += attempts - 1
        self._texts += len(items)
        self._tokens += counted_tokens(items, answer)
        return vectors, truncated

    def counts(self, repeated: int) -> CallCounts:
        """What the calls came to; see CallCounts for what is repeated."""
        return CallCounts(self._calls, self._retried, self._texts, self._tokens, repeated)

    def live(self) -> LiveCounts:
        """What was answered so far, for progress."""
        return LiveCounts(texts=self._texts, tokens=self._tokens)


def counted_tokens(items: Sequence[Content], answer: Answer) -> int:
    """The tokens of an answered call, as the service counts them; estimated where it does not."""
    return sum(item.tokens for item in items) if answer.tokens is None else answer.tokens
