"""The settings that make vectors comparable, and the service that makes them."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import re
import urllib.parse
from typing import Any

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.media_settings import LongMedia, MediaSettings
from bulkembed.schemas.messages import content_noun
from bulkembed.schemas.models import MEDIA_MODEL, ModelSpec, TaskType, VertexMethod, find_model
from bulkembed.schemas.secrets import without_credentials
from bulkembed.schemas.serialization import from_plain


class LongText(enum.StrEnum):
    """How to handle a text with more tokens than the model accepts."""

    TRUNCATE = "truncate"
    """The service embeds its first tokens."""
    DEAD_LETTER = "dead-letter"
    """The row fails with the code `too_long`."""
    STOP = "stop"
    """The run stops."""
    PASSAGES = "passages"
    """The text is cut, and each passage is a row of the output."""
    MEAN = "mean"
    """The text is cut, and its vector is the mean of those of its passages."""

    @property
    def cuts(self) -> bool:
        """Whether long texts are cut into passages."""
        return self is LongText.PASSAGES or self is LongText.MEAN


class BlankText(enum.StrEnum):
    """How to handle a row whose text is null, empty or white space."""

    SKIP = "skip"
    STOP = "stop"


class Service(enum.StrEnum):
    """The kind of service; vectors of different services never share a dataset."""

    DEVELOPER = "developer"
    VERTEX = "vertex"
    EMULATOR = "emulator"
    CUSTOM = "custom"


class Compression(enum.StrEnum):
    """Whether the service may compress its answers."""

    AUTO = "auto"
    """It decides about JSON; protobuf hardly gets smaller."""
    OFF = "off"


class Wire(enum.StrEnum):
    """The format of answers with vectors."""

    JSON = "json"
    PROTO = "proto"
    """Protobuf, an experiment."""


GOOGLE_HOSTS = ".googleapis.com"
"""The end of the names of Google's API hosts."""


@dataclasses.dataclass(frozen=True, slots=True)
class ServiceConfig:
    """The address of the service, and how to call it; never holds the key, only its place."""

    kind: Service = Service.DEVELOPER
    base_url: str | None = None
    api_version: str | None = None
    vertex_project: str | None = None
    vertex_location: str | None = None
    api_key_file: str | None = None
    api_key_secret: str | None = None
    timeout_s: float = 60.0
    vertexai: bool = False
    compression: Compression = Compression.AUTO
    wire: Wire = Wire.JSON

    def __post_init__(self) -> None:
        if self.timeout_s <= 0:
            raise ConfigError(f"--timeout {self.timeout_s:g}s is too short. Use a time above 0s.")
        if bool(self.vertex_project) != bool(self.vertex_location):
            raise ConfigError(
                "--vertex-project and --vertex-location need each other. "
                "Remove both for express mode with a key."
            )
        if self.vertex_project and not self.vertexai:
            raise ConfigError("--vertex-project needs --vertexai")
        if self.wire is Wire.PROTO and self.vertexai:
            raise ConfigError(
                "--wire proto works with the Developer API only: answers of Vertex AI would not be "
                "smaller. Remove --wire or --vertexai."
            )
        # Both are parts of the URL that gets the credentials, the location even of its host name.
        if not re.fullmatch(r"[\w.:-]*", self.vertex_project or "", re.ASCII):
            raise ConfigError("--vertex-project must be the id of a project, such as my-project-1")
        if not re.fullmatch(r"[a-z0-9-]*", self.vertex_location or ""):
            raise ConfigError("--vertex-location must be the name of a region, such as us-central1")
        if not re.fullmatch(r"[\w.-]*", self.api_version or "", re.ASCII):
            raise ConfigError("--api-version must be a version, such as v1 or v1beta")
        self._check_secret()
        self._check_url()

    def _check_secret(self) -> None:
        if self.api_key_secret is None:
            return
        if self.api_key_file:
            raise ConfigError("Use either --api-key-file or --api-key-secret, not both")
        if not re.fullmatch(
            r"projects/[^/\s]+/secrets/[\w-]+(/versions/[\w-]+)?", self.api_key_secret
        ):
            # The value is not shown: it may be the key itself.
            raise ConfigError(
                "--api-key-secret must be the name of a secret: projects/PROJECT/secrets/NAME"
            )

    def _check_url(self) -> None:
        """Raise ConfigError if the base URL is invalid, or has a part that may be a secret."""
        try:
            parts = urllib.parse.urlsplit(self.base_url or "")
            is_url = self.base_url is None or (self.host is not None and parts.port != 0)
        except ValueError:  # Such as a port beyond 65535.
            is_url = False
        if self.base_url is not None and not is_url:
            raise ConfigError(
                f"--base-url {without_credentials(self.base_url)!r} is not a URL. Write "
                "https://HOST or http://HOST:PORT."
            )
        if parts.username or parts.password or parts.query:
            raise ConfigError(
                f"--base-url has a user, a password or a query (at {parts.hostname}), which would "
                "be saved in run.json. Remove them, and put the key into the environment."
            )

    def predicts(self, spec: ModelSpec) -> bool:
        """Return whether calls of a model go to the `:predict` of Vertex AI."""
        return self.vertexai and spec.vertex_method is VertexMethod.PREDICT

    @property
    def host(self) -> str | None:
        """The host of a base URL, without its port."""
        if self.base_url is None:
            return None
        parts = urllib.parse.urlsplit(self.base_url)
        return parts.hostname if parts.scheme in ("http", "https") else None

    @property
    def is_google(self) -> bool:
        """Whether calls go to a host of Google's own."""
        if self.kind in (Service.DEVELOPER, Service.VERTEX):
            return True
        return self.host is not None and self.host.endswith(GOOGLE_HOSTS)

    @property
    def is_loopback(self) -> bool:
        """Whether the base URL is on this machine, which needs no key."""
        return self.host in ("127.0.0.1", "localhost", "::1")

    @property
    def needs_key(self) -> bool:
        """Whether requests need a key."""
        if self.kind is Service.EMULATOR or self.is_loopback:
            return False
        return not (self.vertexai and self.vertex_project)

    @property
    def identity(self) -> str:
        """The name of the service in the embedding digest, without ports."""
        return f"{self.kind}:{self.host}" if self.kind is Service.CUSTOM else str(self.kind)


BYTES_PER_TOKEN = 4
"""How many UTF-8 bytes count as a token when texts are cut.

These are four letters of English, two of Russian, one and a third of Chinese. The number is
constant, so that every run cuts a text in the same way. No text has more tokens than bytes.
"""
MIN_TOKENS = 16
DEFAULT_TOKENS = 512
"""For `--long-text passages`: 2,048 bytes, which no model cuts."""
DEFAULT_OVERLAP = 64


@dataclasses.dataclass(frozen=True, slots=True)
class PassageSize:
    """The maximum tokens of a passage, and of its overlap with the passage before it.

    Title and prefix count as parts of a passage. A token is BYTES_PER_TOKEN bytes.

    Raises:
        ConfigError: no text can be cut to these sizes.
    """

    tokens: int
    overlap: int

    def __post_init__(self) -> None:
        if self.tokens < MIN_TOKENS:
            raise ConfigError(f"--passage-tokens {self.tokens}: use {MIN_TOKENS} or more")
        if not 0 <= self.overlap < self.tokens // 2:
            raise ConfigError(
                f"--passage-overlap {self.overlap}: use 0 to {self.tokens // 2 - 1}, less than "
                f"half of the {self.tokens} tokens of a passage"
            )

    @property
    def max_bytes(self) -> int:
        """The maximum bytes of a passage, with title and prefix."""
        return self.tokens * BYTES_PER_TOKEN

    @property
    def overlap_bytes(self) -> int:
        """The maximum bytes that a passage repeats of the one before it."""
        return self.overlap * BYTES_PER_TOKEN


@dataclasses.dataclass(frozen=True, slots=True)
class EmbeddingConfig:
    """All settings that affect the vector of a text.

    `dim` None means the model's default. For `passage_tokens` and `passage_overlap` None, see
    `passages`. Two runs may share a dataset only if their digests are equal.

    Raises:
        ConfigError: the model does not support this dim, task type or title.
    """

    service: str
    model: str
    task_type: TaskType = TaskType.RETRIEVAL_DOCUMENT
    dim: int | None = None
    normalize: bool = True
    long_text: LongText = LongText.TRUNCATE
    has_titles: bool = False
    passage_tokens: int | None = None
    passage_overlap: int | None = None
    media: MediaSettings | None = None
    """How media is prepared; None if rows are texts alone."""

    def __post_init__(self) -> None:
        spec = self.spec
        spec.check_dim(self.dim)
        if self.has_titles and self.task_type is not TaskType.RETRIEVAL_DOCUMENT:
            raise ConfigError(
                f"--title-column works with --task-type RETRIEVAL_DOCUMENT only, "
                f"not with {self.task_type}. Remove --title-column."
            )
        if spec.vertex_only and self.service == Service.DEVELOPER:
            raise ConfigError(
                f"--model {spec.name} is served by Vertex AI only. Add --vertexai, "
                f"or choose {spec.successor}."
            )
        self._check_passages()
        self._check_media()

    def _check_media(self) -> None:
        if self.media is None:
            return
        if not self.spec.takes_media:
            raise ConfigError(
                f"--content names media, but --model {self.spec.name} takes texts only. Use "
                f"--model {MEDIA_MODEL}."
            )
        if self.long_text is not LongText.TRUNCATE:
            raise ConfigError(
                f"--long-text {self.long_text} cannot be combined with media in --content. Texts "
                f"beside media are sent whole, and the service reads the first "
                f"{self.spec.max_tokens:,} tokens of a row. Remove --long-text, or embed long "
                "texts in a dataset of their own."
            )

    def _check_passages(self) -> None:
        size, limit = self.passages, self.spec.max_tokens
        if size is None and (self.passage_tokens, self.passage_overlap) != (None, None):
            raise ConfigError(
                "--passage-tokens and --passage-overlap work with --long-text passages or mean only"
            )
        if size is not None and size.tokens > limit:
            raise ConfigError(
                f"--passage-tokens {size.tokens}: {self.spec.name} accepts at most {limit} tokens. "
                f"The service never cuts a passage of at most {limit // BYTES_PER_TOKEN} tokens."
            )
        if self.long_text is LongText.MEAN and not self.normalize:
            raise ConfigError(
                "--long-text mean makes vectors of unit length. Remove --no-normalize."
            )

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> EmbeddingConfig:
        """Return the configuration whose `facts` were pinned.

        Raises:
            KeyError, ValueError: they are not the facts of an embedding.
            ConfigError: see the class.
        """
        return from_plain({**facts, "has_titles": facts["titles"]}, cls)

    @property
    def spec(self) -> ModelSpec:
        """The registry's entry of the model."""
        return find_model(self.model)

    @property
    def sends_uris(self) -> bool:
        """Whether Vertex AI reads files in buckets of Google Cloud Storage itself."""
        return self.media is not None and self.media.by_uri

    @property
    def max_billed_tokens(self) -> int:
        """The most that one content can cost, in tokens of text."""
        spec = self.spec
        if self.media is None:
            return spec.max_tokens
        factors = spec.media_factors
        return round(spec.max_tokens * max(1.0, factors.image, factors.audio, factors.video))

    @property
    def out_dim(self) -> int | None:
        """The dimensions of a vector; None if only the first answer shows them."""
        return self.dim or self.spec.default_dim or None

    @property
    def sent_task_type(self) -> TaskType | None:
        """The task type for the request's field; None for models that use a prefix."""
        return self.task_type if self.spec.prefixes is None else None

    @property
    def sent_dim(self) -> int | None:
        """The dimensions for the request's field; None for the model's own."""
        return None if self.dim == self.spec.default_dim else self.dim

    @property
    def prefix(self) -> str | None:
        """The prefix of each text; None for models with a field for the task type."""
        prefixes = self.spec.prefixes
        return None if prefixes is None else prefixes[self.task_type]

    @property
    def content_noun(self) -> str:
        """What is sent for a row, in messages."""
        return content_noun(has_media=self.media is not None)

    @property
    def cuts_media(self) -> bool:
        """Whether the rows of the output are pieces of media."""
        return self.media is not None and self.media.long_media is LongMedia.PIECES

    @property
    def rows_are_passages(self) -> bool:
        """Whether the rows of the output are passages of texts, or pieces of media."""
        return self.cuts_media or self.long_text is LongText.PASSAGES

    @property
    def passages(self) -> PassageSize | None:
        """How texts are cut; None if they are not.

        For a mean, a passage has at most as many bytes as the model accepts tokens, so that the
        service cuts none of them.
        """
        if not self.long_text.cuts:
            return None
        tokens, overlap = DEFAULT_TOKENS, DEFAULT_OVERLAP
        if not self.rows_are_passages:
            tokens, overlap = self.spec.max_tokens // BYTES_PER_TOKEN, 0
        tokens = tokens if self.passage_tokens is None else self.passage_tokens
        overlap = (
            min(overlap, tokens // 8) if self.passage_overlap is None else self.passage_overlap
        )
        return PassageSize(tokens, overlap)

    def facts(self) -> dict[str, object]:
        """Return the settings that the digest covers, as they are pinned and compared."""
        size = self.passages
        cut = (
            {} if size is None else {"passage_tokens": size.tokens, "passage_overlap": size.overlap}
        )
        return {
            "service": self.service,
            "model": self.spec.name,
            "task_type": str(self.task_type),
            "prefix": self.prefix,
            "dim": self.out_dim,
            "normalize": self.normalize,
            "long_text": str(self.long_text),
            "titles": self.has_titles,
            **cut,
            **({} if self.media is None else {"media": self._media_facts(self.media)}),
        }

    def _media_facts(self, media: MediaSettings) -> dict[str, object]:
        """Return the settings of media that change vectors, and not only which rows fail."""
        cut: dict[str, object] = {}
        if media.long_media is not LongMedia.DEAD_LETTER:
            cut = {"piece_seconds": media.piece_seconds, "piece_pages": media.piece_pages}
        if media.long_media is LongMedia.PIECES:
            cut |= {
                "piece_overlap_seconds": media.piece_overlap_seconds,
                "piece_overlap_pages": media.piece_overlap_pages,
            }
        switches = {
            "document_ocr": media.document_ocr,
            "audio_track": media.audio_track,
            "by_uri": media.by_uri,
            # The name of Google's own Vertex AI says so already.
            "vertexai": media.vertexai and self.service != Service.VERTEX,
        }
        return {
            "transcode": str(media.transcode),
            "max_image_side": media.max_image_side,
            "long_media": str(media.long_media),
            **cut,
            **{name: True for name, is_on in switches.items() if is_on},
        }

    @property
    def digest(self) -> str:
        """16 hex digits, equal for settings whose vectors are comparable."""
        return digest_of(self.facts())


def digest_of(facts: dict[str, object]) -> str:
    """Return 16 hex digits of a JSON object, independent of the order of its keys."""
    canonical = json.dumps(facts, sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()
