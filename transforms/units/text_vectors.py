"""The vectors of the distinct texts of some rows, and the counts of the requests for them."""

from __future__ import annotations

import mmap
from collections.abc import Sequence

import numpy as np

from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.live import LiveCounts
from bulkembed.schemas.media import NO_MEDIA
from bulkembed.schemas.units import CallCounts
from bulkembed.transforms.calls.answer_parts import counted_media, counted_tokens
from bulkembed.transforms.clients.decoding import Answer
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.vectors import Matrix, Vector, mean_vector, to_unit_length
from bulkembed.transforms.dataset.kept_answers import AnswerSink, AnswerWriter
from bulkembed.transforms.units.distinct_contents import Passage

_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


class TextVectors:
    """A matrix with a row for each of n distinct texts, filled as vectors come in."""

    def __init__(self, texts: int) -> None:
        self.present = np.zeros(texts, dtype=bool)
        """Which texts have a vector."""
        self.truncated: list[bool | None] = [None] * texts
        """Whether the service cut each text; None if unknown."""
        self._matrix: Matrix | None = None

    @property
    def matrix(self) -> Matrix:
        """The vectors, of shape (n, dim); (n, 0) before the first one comes in."""
        return (
            np.empty((len(self.present), 0), np.float32) if self._matrix is None else self._matrix
        )

    def put(
        self, indexes: Sequence[int], vectors: Matrix, truncated: Sequence[bool | None]
    ) -> None:
        """Store vectors of shape (m, dim) for m texts."""
        # The texts of a request are usually adjacent, and a slice is copied much faster.
        span = slice(indexes[0], indexes[-1] + 1)
        are_adjacent = list(indexes) == list(range(span.start, span.stop))
        places = span if are_adjacent else indexes
        self._allocated(vectors.shape[1])[places] = vectors
        self.present[places] = True
        for index, flag in zip(indexes, truncated, strict=True):
            self.truncated[index] = flag

    def _allocated(self, dim: int) -> Matrix:
        """Return the matrix, allocated once the first vector shows its length."""
        if self._matrix is None:
            # Pages of its own are returned to the system. Blocks of this size in malloc's heap
            # leave holes, and the process grows. With small pages, a third of the time to fill the
            # matrix is page faults.
            shape = (len(self.present), dim)
            pages = mmap.mmap(-1, max(1, 4 * shape[0] * shape[1]), flags=_PRIVATE)
            if hasattr(mmap, "MADV_HUGEPAGE"):
                pages.madvise(mmap.MADV_HUGEPAGE)
            self._matrix = np.ndarray(shape, np.float32, buffer=pages)
        return self._matrix

    def mean(self, passages: Sequence[Passage]) -> Vector | None:
        """Return the mean of passages, weighted by their characters, at unit length.

        None if their vectors cancel each other out.
        """
        items = [passage.item for passage in passages]
        return mean_vector(self.matrix, items, [int(one.end - one.start) for one in passages])


class AnswerRecorder:
    """Keeps the answers to requests until their texts are committed, and counts them.

    Args:
        embedding: the settings of the vectors.
        kept: the file of kept answers; None to keep nothing.
    """

    def __init__(self, embedding: EmbeddingConfig, kept: AnswerSink | None = None) -> None:
        self._embedding = embedding
        self._kept = kept or AnswerWriter(None)
        self._media = NO_MEDIA
        self._calls = self._retried = self._texts = self._tokens = 0

    def record(
        self, items: Sequence[Content], answer: Answer, attempts: int
    ) -> tuple[Matrix, list[bool | None]]:
        """Keep one answer; see `ResultReceiver`.

        Returns:
            The vectors to write, (n, dim) in the order of the items, and for each item whether the
            service cut its text; None if unknown.

        Raises:
            OutputError: the answer cannot be kept.
        """
        vectors = answer.vectors
        if self._embedding.normalize:
            vectors = to_unit_length(vectors)
        flags = answer.truncated or (None,) * len(items)
        max_tokens = self._embedding.spec.max_tokens
        truncated = [
            item.is_cut or (False if flag is None and item.token_bound <= max_tokens else flag)
            for item, flag in zip(items, flags, strict=True)
        ]
        self._kept.append([item.hash for item in items], vectors, truncated)
        self._calls += attempts > 0
        self._retried += max(0, attempts - 1)
        self._texts += len(items)
        self._tokens += counted_tokens(items, answer)
        self._media += counted_media(items, answer)
        return vectors, truncated

    def counts(self, repeated: int, reused: int = 0) -> CallCounts:
        """Return the counts of the requests; see CallCounts for `repeated` and `reused`."""
        sent = self._calls, self._retried, self._texts, self._tokens
        media = self._media
        return CallCounts(*sent, repeated, reused, media.image, media.audio, media.video)

    def live(self) -> LiveCounts:
        """Return the counts so far, for progress."""
        return LiveCounts(
            texts=self._texts,
            tokens=self._tokens,
            image_tokens=self._media.image,
            audio_tokens=self._media.audio,
            video_tokens=self._media.video,
        )
