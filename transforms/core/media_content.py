"""Contents of several parts: texts, and media whose bytes wait on a disk until they are sent."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeAlias

from bulkembed.schemas.media import NO_MEDIA, MediaFactors, MediaKind, MediaTokens
from bulkembed.schemas.models import ModelSpec
from bulkembed.transforms.core.content import Content, json_bytes
from bulkembed.transforms.core.hashing import HASH_BYTES
from bulkembed.transforms.core.tokens import TokenEstimator, features, utf8_bytes

PART_BYTES = 64
"""What a part adds to a body around its text or its base64."""
_PERSON = b"bulkembed parts"
"""Keeps these hashes apart from those of texts alone."""


class ByteStore(Protocol):
    """Where prepared media waits; see `dataset.unnamed_file`."""

    def read(self, start: int, size: int) -> bytes | bytearray:
        """Return the bytes from a place on."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class StoredMedia:
    """One media part as it is sent; `read` returns its bytes."""

    kind: MediaKind
    mime: str
    tokens: int
    """As the service counts them; 0 if its length is not known."""
    store: ByteStore
    start: int
    size: int
    audio_tokens: int = 0
    """How many of `tokens` are of the audio track of a video."""
    has_text: bool = False
    """Whether the service adds the text that it finds, whose tokens are not known before."""

    def billed_as(self, if_unknown: int = 0) -> MediaTokens:
        """Return its tokens by what they are billed as; of an unknown length, `if_unknown`."""
        own = (self.tokens or if_unknown) - self.audio_tokens
        return MediaTokens.of(self.kind, own) + MediaTokens(audio=self.audio_tokens)

    def read(self) -> bytes | bytearray:
        """Return the bytes that are sent.

        Raises:
            OutputError: the disk cannot be read.
        """
        return self.store.read(self.start, self.size)

    @property
    def body_bytes(self) -> int:
        """Its size in a JSON body: base64, and what is around it."""
        return (self.size + 2) // 3 * 4 + len(self.mime) + PART_BYTES


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class UriMedia:
    """One media part that the service reads itself."""

    kind: MediaKind
    mime: str
    uri: str
    tokens: int
    """The most that it can have: its length is not known."""
    has_text: bool = False
    """Whether the service adds the text that it finds, whose tokens are not known before."""

    def billed_as(self, if_unknown: int = 0) -> MediaTokens:
        """Return its tokens by what they are billed as."""
        return MediaTokens.of(self.kind, self.tokens)

    @property
    def body_bytes(self) -> int:
        """Its size in a JSON body."""
        return json_bytes(self.uri) + len(self.mime) + PART_BYTES


SentMedia: TypeAlias = StoredMedia | UriMedia
SentPart: TypeAlias = str | SentMedia


@dataclasses.dataclass(frozen=True, slots=True)
class MediaContent(Content):
    """Parts that are sent together for one vector: at least two texts, or one medium."""

    parts: tuple[SentPart, ...]
    max_tokens: int
    """What the model reads at most."""
    factors: MediaFactors

    @property
    def media(self) -> tuple[SentMedia, ...]:
        """The parts with media."""
        return tuple(part for part in self.parts if not isinstance(part, str))

    @property
    def held_bytes(self) -> int:
        """A part of its size: it waits on a disk, of which work in progress must not take much."""
        return self.body_bytes // 4

    @property
    def media_tokens(self) -> int:
        """The tokens of its media, as the service counts them."""
        return sum(part.tokens for part in self.media)

    @property
    def tokens_by_modality(self) -> MediaTokens:
        """The tokens of its media, by what they are billed as."""
        return sum((part.billed_as() for part in self.media), NO_MEDIA)

    @property
    def token_bound(self) -> int:
        """The bytes of its texts, and the tokens of its media; these are bounded by the model."""
        texts = sum(utf8_bytes(part) for part in self.parts if isinstance(part, str))
        unknown = any(not part.tokens or part.has_text for part in self.media)
        return texts + (self.max_tokens if unknown else self.media_tokens)

    @property
    def billed_tokens(self) -> int:
        """An estimate of the tokens of text that cost the same."""
        return self.tokens + self._surcharge(0)

    @property
    def billed_bound(self) -> int:
        """The most that it can cost, in tokens of text."""
        return self.token_bound + self._surcharge(self.max_tokens)

    def _surcharge(self, if_unknown: int) -> int:
        """Return what its media costs above its own count, in tokens of text."""
        counts = (part.billed_as(if_unknown) for part in self.media)
        return sum(map(self.factors.surcharge, counts))

    def surely_exceeds(self, tokens: int) -> bool:
        """Return False: the service cuts such a content."""
        return False


def media_content(
    index: int,
    content_hash: bytes,
    parts: Sequence[SentPart],
    spec: ModelSpec,
    estimator: TokenEstimator,
) -> MediaContent:
    """Return the content of some parts, measured.

    Args:
        index: of the content among the distinct ones of its unit.
        content_hash: see `parts_hash`.
        parts: in the order in which they are sent.
        spec: the model.
        estimator: estimates the tokens of the texts.
    """
    texts = [part for part in parts if isinstance(part, str)]
    made_of = features("\n".join(texts))
    body = sum(
        json_bytes(part) + PART_BYTES if isinstance(part, str) else part.body_bytes
        for part in parts
    )
    tokens = estimator.estimate_call(made_of) if texts else 0
    content = MediaContent(
        index, content_hash, tokens, body, made_of, False, tuple(parts), spec.max_tokens,
        spec.media_factors,
    )  # fmt: skip
    total = min(tokens + content.media_tokens, spec.max_tokens)
    return dataclasses.replace(content, tokens=max(1, total))


def parts_hash(
    parts: Iterable[str | tuple[MediaKind, bytes]], span: tuple[float, float] | None = None
) -> bytes:
    """Return 16 bytes of BLAKE2b over the parts, each after its kind and its length.

    `span` is the place of a piece, if only a piece of the one long part is sent.

    Media counts by its bytes as they are in the input, before anything is transcoded, and so does
    not depend on the version of a library. Its true type follows from the bytes.
    """
    digest = hashlib.blake2b(digest_size=HASH_BYTES, person=_PERSON)
    for part in parts:
        kind, data = ("text", part.encode()) if isinstance(part, str) else part
        digest.update(f"{kind} {len(data)}\n".encode())
        digest.update(data)
    if span is not None:
        digest.update(f"piece {span[0]:g} {span[1]:g}\n".encode())
    return digest.digest()
