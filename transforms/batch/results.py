"""Read the results of a batch job from a file, line by line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.ledger_entry import BatchJob
from bulkembed.schemas.units import CallCounts
from bulkembed.transforms.clients.batch_lines import BatchLine, decode_line
from bulkembed.transforms.core.hashing import keys
from bulkembed.transforms.core.vectors import Matrix, to_unit_length
from bulkembed.transforms.dataset.batch_answers import RejectedText
from bulkembed.transforms.dataset.batch_ledger import JobTexts
from bulkembed.transforms.dataset.kept_answers import FLAGS
from bulkembed.transforms.dataset.known_vectors import VectorBlock

BLOCK_ROWS = 256
BUFFER_BYTES = 4 << 20


class ResultReader:
    """Reads the results of a job; what it found is complete once all blocks are read.

    Args:
        path: the results, in the order of the service.
        job: the job.
        texts: its texts; None if they are not known, and every line counts.
        embedding: the settings of the vectors.
    """

    def __init__(
        self, path: Path, job: BatchJob, texts: JobTexts | None, embedding: EmbeddingConfig
    ) -> None:
        self._path = path
        self._job = job
        self._texts = texts
        # In one piece: a search in the field of `texts` would copy all keys for each line.
        self._keys = None if texts is None else np.ascontiguousarray(texts["key"])
        self._embedding = embedding
        self._dim = embedding.out_dim
        self._answered = np.zeros(0 if texts is None else len(texts), bool)
        self._seen: set[bytes] = set()
        self._tokens = 0
        self._uncounted = 0
        self._vectors = 0
        self.rejected: list[RejectedText] = []
        self.errors: dict[str, int] = {}
        """How many lines had an error that is not about their text, by its words."""
        self.foreign = 0
        """Lines with the key of no text of the job."""
        self.repeated = 0
        """Lines with a key that an earlier line had."""

    def blocks(self) -> Iterator[VectorBlock]:
        """Yield the vectors in the order of the file, each text once."""
        found: list[tuple[BatchLine, bool | None]] = []
        with self._path.open("rb", BUFFER_BYTES) as file:
            for text in file:
                if text.isspace():
                    continue
                line = decode_line(text, self._dim)
                flag = self._take(line)
                if flag is not None:
                    found.append((line, flag[0]))
                if len(found) == BLOCK_ROWS:
                    yield self._block(found)
                    found = []
        if found:
            yield self._block(found)

    def _take(self, line: BatchLine) -> tuple[bool | None] | None:
        """Count a line; return whether its text was cut if it has a vector to keep."""
        place = self._place(line.key)
        if place is None:
            return None
        if line.error is not None or line.key is None or line.vector is None:
            error = line.error
            if error is not None and error.about_row and line.key is not None:
                self._mark(place, line.key)
                self.rejected.append(
                    RejectedText(line.key.hex(), error.dead_code, error.message, error.http_status)
                )
            else:
                words = error.message if error is not None else "no vector"
                self.errors[words] = self.errors.get(words, 0) + 1
            return None
        self._mark(place, line.key)
        self._dim = self._dim or len(line.vector)
        self._vectors += 1
        self._tokens += line.tokens or 0
        self._uncounted += line.tokens is None
        flag = line.truncated
        if flag is None and self._texts is not None:
            flag = FLAGS[int(self._texts["flag"][place])]
        if flag is None and line.tokens is not None and self._embedding.spec.known:
            flag = False if line.tokens < self._embedding.spec.max_tokens else None
        return (flag,)

    def _place(self, key: bytes | None) -> int | None:
        """Return which text of the job a line is for; None if it does not count."""
        if key is None:
            self.foreign += 1
            return None
        if self._keys is None:
            self.repeated += key in self._seen
            return None if key in self._seen else 0
        wanted = keys([key])[0]
        place = int(self._keys.searchsorted(wanted))
        if place == len(self._keys) or self._keys[place] != wanted:
            self.foreign += 1
            return None
        if self._answered[place]:
            self.repeated += 1
            return None
        return place

    def _mark(self, place: int, key: bytes) -> None:
        if self._texts is None:
            self._seen.add(key)
        else:
            self._answered[place] = True

    def _block(self, found: list[tuple[BatchLine, bool | None]]) -> VectorBlock:
        vectors: Matrix = np.array([line.vector for line, _ in found], np.float32)
        if self._embedding.normalize:
            vectors = to_unit_length(vectors)
        hashes = [line.key or b"" for line, _ in found]
        return VectorBlock(hashes, vectors, [flag for _, flag in found])

    @property
    def missing(self) -> JobTexts | None:
        """The texts without an answer; None if the texts of the job are not known."""
        return None if self._texts is None else self._texts[~self._answered]

    @property
    def counts(self) -> CallCounts:
        """What the job cost.

        `repeated` subtracts the texts that were sent, as that of shared texts does: each row that
        takes one of the vectors counts as repeated.
        """
        tokens = self._tokens + estimated_tokens(self._job, self._uncounted)
        return _counted(self._job, self._vectors, tokens, repeated=-self._vectors)


def billed_counts(path: Path, job: BatchJob) -> CallCounts:
    """Return what the results of a job in a file cost, if nobody needs its vectors."""
    answered: set[bytes] = set()
    tokens = uncounted = 0
    with path.open("rb", BUFFER_BYTES) as file:
        for text in file:
            line = decode_line(text, None)
            if line.key is not None and line.vector is not None and line.key not in answered:
                answered.add(line.key)
                tokens += line.tokens or 0
                uncounted += line.tokens is None
    return _counted(job, len(answered), tokens + estimated_tokens(job, uncounted), repeated=0)


def _counted(job: BatchJob, texts: int, tokens: int, repeated: int) -> CallCounts:
    """Return what some texts of a job cost; an answer does not say which tokens are of media."""
    media = job.media_of(tokens)
    return CallCounts(
        texts=texts, tokens=tokens, repeated=repeated, image_tokens=media.image,
        audio_tokens=media.audio, video_tokens=media.video,
    )  # fmt: skip


def estimated_tokens(job: BatchJob, texts: int) -> int:
    """Return about how many tokens some texts of a job have."""
    # A damaged entry has no estimate.
    return round(texts * (job.tokens or job.token_bound) / max(1, job.rows))
