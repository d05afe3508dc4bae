"""Write the file of a batch job: as many texts as its limits allow, one line each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from bulkembed.schemas.batch import BatchConfig
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.media import NO_MEDIA, MediaTokens
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.units import FilePicks
from bulkembed.transforms.clients.batch_requests import BatchLineWriter
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.media_content import MediaContent
from bulkembed.transforms.core.tokens import TokenEstimator
from bulkembed.transforms.dataset.atomic_files import output_error
from bulkembed.transforms.dataset.batch_ledger import JobTexts, job_texts
from bulkembed.transforms.units.shared_texts import DamagePolicy, read_shared

BUFFER_BYTES = 1 << 20
MAX_LINE_BYTES = 20 << 20
"""The most that one content takes in a job file. The limit of the services is not published."""

T = TypeVar("T")


class Ahead(Iterator[T]):
    """An iterator whose next element can be looked at before it is taken."""

    def __init__(self, elements: Iterator[T]) -> None:
        self._elements = elements
        self._next: list[T] = []

    def peek(self) -> T | None:
        """Return the next element without taking it; None at the end."""
        if not self._next:
            self._next = [one for one in [next(self._elements, None)] if one is not None]
        return self._next[0] if self._next else None

    def __next__(self) -> T:
        if self._next:
            return self._next.pop()
        return next(self._elements)


def job_contents(
    files: Sequence[FilePicks], job: JobConfig, on_damage: DamagePolicy
) -> Ahead[Content]:
    """Return the contents of single texts, in order; some rows are in memory at a time.

    To iterate raises InputError if a file cannot be read, or has changed.

    Args:
        files: the texts.
        job: the run.
        on_damage: handles the damage of a file.
    """
    spec = job.embedding.spec
    estimator = TokenEstimator(spec.max_tokens if spec.known else None)
    found = read_shared(files, job.columns, job.embedding, estimator, on_damage)
    return Ahead(item for texts in found for item in texts.items)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class JobFile:
    """The file of a job on the local disk."""

    path: Path
    texts: JobTexts
    tokens: int
    """Estimated."""
    token_bound: int
    """What its texts can cost at most, in tokens of text."""
    size_bytes: int
    media: MediaTokens = NO_MEDIA
    """How many of the tokens are of media."""
    surcharge: int = 0
    """What its media costs above its own tokens, in tokens of text."""


def write_job_file(
    path: Path,
    contents: Ahead[Content],
    job: JobConfig,
    settings: BatchConfig,
    room: int | None,
) -> JobFile | None:
    """Write the next contents to a file, up to the limits of a job.

    Args:
        path: of the file, which is overwritten.
        contents: those that fit are taken from it.
        job: the run.
        settings: the limits.
        room: how many tokens may be enqueued; None for any number.

    Returns:
        The file; None if there is no content, or no room for the next one.

    Raises:
        OutputError: the disk is full.
    """
    writer = BatchLineWriter(job.service, job.embedding)
    hashes: list[bytes] = []
    flags: list[bool | None] = []
    media = NO_MEDIA
    tokens = bound = size = surcharge = 0
    max_bytes = settings.max_job_bytes(job.service)
    try:
        with path.open("wb", BUFFER_BYTES) as file:
            while len(hashes) < settings.job_rows and (content := contents.peek()) is not None:
                if room is not None and tokens + content.tokens > room:
                    break
                line = writer.line(content)
                if hashes and size + len(line) > max_bytes:
                    break
                next(contents)
                file.write(line)
                hashes.append(content.hash)
                flags.append(_is_cut(content, job.embedding))
                tokens += content.tokens
                bound += billed_bound(content, job.embedding)
                size += len(line)
                surcharge += content.billed_tokens - content.tokens
                if isinstance(content, MediaContent):
                    media += content.tokens_by_modality
    except OSError as error:
        raise output_error(str(path), error) from error
    if not hashes:
        path.unlink()
        return None
    return JobFile(path, job_texts(hashes, flags), tokens, bound, size, media, surcharge)


def check_room(tokens: int, room: int) -> None:
    """Raise ConfigError if a text of so many tokens does not fit into an unused quota."""
    if tokens > room:
        raise ConfigError(
            f"--enqueued-tokens leaves room for {number_of(room, 'token')}, but one text has about "
            f"{tokens:,}. Raise the limit to that of your tier, or use --mode online."
        )


def billed_bound(content: Content, embedding: EmbeddingConfig) -> int:
    """Return what a content can cost at most, in tokens of text."""
    if not embedding.spec.known:
        return content.billed_bound
    extra = content.billed_bound - content.token_bound
    return min(content.token_bound, embedding.spec.max_tokens) + extra


def _is_cut(content: Content, embedding: EmbeddingConfig) -> bool | None:
    """Return whether the service reads only a part of a content; None if only it knows."""
    if content.is_cut:
        return True
    return False if content.token_bound <= embedding.spec.max_tokens else None
