"""What is sent for a row: its content, measured and hashed. A text is one kind of content.

Packing, the gate, the caller and the receivers of results see `Content` only. The code that reads
rows makes contents, and the code that writes requests (`clients.requests`) knows their kinds.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable
from json.encoder import encode_basestring_ascii

from bulkembed.schemas.embedding import EmbeddingConfig, LongText
from bulkembed.schemas.models import TITLE
from bulkembed.transforms.core.hashing import text_hash
from bulkembed.transforms.core.tokens import (
    Features,
    TokenEstimator,
    features,
    readable_part,
    utf8_bytes,
)

REQUEST_BYTES = 320
"""What one request of a batch adds to the body around its content: field names, model, task."""
BODY_MARGIN_BYTES = 65_536
"""How far a body stays below the model's limit."""
TITLE_BYTES = 2**20
"""Maximum bytes of a title in a body. A longer one is cut, so that the text has room."""


@dataclasses.dataclass(frozen=True, slots=True)
class Content(abc.ABC):
    """One distinct content of a unit, on its way to the service."""

    index: int
    """Its place among the distinct contents of the unit."""
    hash: bytes
    """Of what is sent, before anything is cut off. Equal hashes get equal vectors."""
    tokens: int
    """An estimate."""
    body_bytes: int
    """Its size in a JSON body, without `REQUEST_BYTES`."""
    features: Features
    """What the estimate is made from, see core.tokens."""
    is_cut: bool
    """Whether only the beginning of the row's content is sent, as much as the model can read."""

    @property
    @abc.abstractmethod
    def token_bound(self) -> int:
        """A number of tokens that the content cannot exceed."""

    @property
    def held_bytes(self) -> int:
        """What it takes of the memory for work in progress, besides its vector."""
        return self.body_bytes

    @property
    def media_tokens(self) -> int:
        """The tokens of its media, which are not among its features."""
        return 0

    @property
    def billed_tokens(self) -> int:
        """An estimate of the tokens of text that cost the same."""
        return self.tokens

    @property
    def billed_bound(self) -> int:
        """The most that it can cost, in tokens of text."""
        return self.token_bound

    @abc.abstractmethod
    def surely_exceeds(self, tokens: int) -> bool:
        """Return whether a model that reads so many tokens cannot read all of the content."""


@dataclasses.dataclass(frozen=True, slots=True)
class TextContent(Content):
    """A text, and its title where the request has a field for it."""

    title: str | None
    text: str

    @property
    def token_bound(self) -> int:
        """The UTF-8 bytes: no tokenizer makes more tokens of a text than it has bytes."""
        return utf8_bytes(self.text) + utf8_bytes(self.title or "")

    def surely_exceeds(self, tokens: int) -> bool:
        """Return whether a model that reads so many tokens cannot read all of the text."""
        return readable_part(self.text, tokens) != self.text


def as_sent(config: EmbeddingConfig, title: str | None, text: str) -> tuple[str | None, str]:
    """Return the title and the text of the request, with the task's prefix if the model wants it.

    The title is None if the prefix holds it. A title of white space counts as none.

    Source: ai.google.dev/gemini-api/docs/embeddings (task prefixes), 2026-11.
    """
    title = title if title and not title.isspace() else None
    prefix = config.prefix
    if prefix is None:
        return title, text
    if TITLE in prefix:
        # Not str.format: a title may hold braces.
        prefix = prefix.replace(TITLE, title or config.spec.no_title)
    return None, prefix + text


def sent_hash(embedding: EmbeddingConfig, title: str | None, text: str) -> bytes:
    """Return the hash of a text as it is sent, before anything is cut off."""
    return text_hash(*as_sent(embedding, title, text))


def sent_hasher(embedding: EmbeddingConfig) -> Callable[[str | None, str], bytes]:
    """Return a function that returns what `sent_hash` does, faster if there are many texts."""
    prefix = embedding.prefix
    if prefix is not None and TITLE in prefix:
        return functools.partial(sent_hash, embedding)
    start = prefix or ""
    with_title = prefix is None

    def hash_of(title: str | None, text: str) -> bytes:
        named = with_title and title and not title.isspace()
        return text_hash(title if named else None, start + text)

    return hash_of


def text_content(
    index: int,
    content_hash: bytes,
    title: str | None,
    text: str,
    embedding: EmbeddingConfig,
    estimator: TokenEstimator,
) -> TextContent:
    """Return a text as it is sent, measured; its estimate is never above the model's maximum.

    If the service may cut the text, what the model cannot read is left out here already: a text of
    some MB would not fit into any call.

    Args:
        index: of the content among the distinct ones of its unit.
        content_hash: the hash of the whole text.
        title: for the request's field, if there is one.
        text: as it is sent, see `as_sent`.
        embedding: the model, and what to do with long texts.
        estimator: estimates tokens.
    """
    whole = title, text
    if embedding.long_text is LongText.TRUNCATE:
        title, text = _readable(title, text, embedding)
    made_of = features(text if title is None else f"{title} {text}")
    tokens = estimator.estimate_call(made_of)
    if estimator.max_tokens is not None:
        tokens = min(tokens, estimator.max_tokens)
    body_bytes = json_bytes(text) + (json_bytes(title) + 10 if title is not None else 0)
    is_cut = (title, text) != whole
    return TextContent(index, content_hash, tokens, body_bytes, made_of, is_cut, title, text)


def _readable(title: str | None, text: str, embedding: EmbeddingConfig) -> tuple[str | None, str]:
    """Return as much of a title and a text as the model can read and a call can hold."""
    spec = embedding.spec
    room = spec.max_body_bytes - BODY_MARGIN_BYTES - REQUEST_BYTES
    if spec.known:
        text = readable_part(text, spec.max_tokens)
        title = title and readable_part(title, spec.max_tokens)
    if title is not None:
        title = within_body(title, TITLE_BYTES)
        room -= json_bytes(title) + 10
    return title, within_body(text, room)


def json_bytes(text: str) -> int:
    """Return the bytes of a text in a JSON body that escapes all but ASCII; UTF-8 has no more."""
    return len(encode_basestring_ascii(text))


def within_body(text: str, max_bytes: int) -> str:
    """Return the longest beginning of a text that takes at most so many bytes in a JSON body."""
    if 12 * len(text) + 2 <= max_bytes or json_bytes(text) <= max_bytes:
        return text
    low, high = 0, min(len(text), max_bytes)
    while low < high:
        middle = (low + high + 1) // 2
        if json_bytes(text[:middle]) <= max_bytes:
            low = middle
        else:
            high = middle - 1
    return text[:low]
