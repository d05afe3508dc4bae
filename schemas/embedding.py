"""What makes vectors comparable, and the service that makes them."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import re
import urllib.parse
from typing import Any

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.models import ModelSpec, TaskType, VertexMethod, find_model
from bulkembed.schemas.secrets import without_credentials
from bulkembed.schemas.serialization import from_plain


class LongText(enum.StrEnum):
    """What becomes of a text with more tokens than the model takes."""

    TRUNCATE = "truncate"
    """The service embeds its first tokens."""
    DEAD_LETTER = "dead-letter"
    """The row is given up on, with code `too_long`."""
    STOP = "stop"
    """The run stops."""
    PASSAGES = "passages"
    """It is cut, and each passage is a row of the output."""
    MEAN = "mean"
    """It is cut, and its vector is the mean of its passages'."""

    @property
    def cuts(self) -> bool:
        """Whether long texts are cut into passages."""
        return self is LongText.PASSAGES or self is LongText.MEAN


class BlankText(enum.StrEnum):
    """What becomes of a row whose text is null, empty or white space."""

    SKIP = "skip"
    STOP = "stop"


class Service(enum.StrEnum):
    """Who answers; vectors of different services never share a dataset."""

    DEVELOPER = "developer"
    VERTEX = "vertex"
    EMULATOR = "emulator"
    CUSTOM = "custom"


GOOGLE_HOSTS = ".googleapis.com"
"""How the names of Google's API hosts end."""


@dataclasses.dataclass(frozen=True, slots=True)
class ServiceConfig:
    """Where the service is and how it is called; names where the key is, never holds it."""

    kind: Service = Service.DEVELOPER
    base_url: str | None = None
    api_version: str | None = None
    vertex_project: str | None = None
    vertex_location: str | None = None
    api_key_file: str | None = None
    api_key_secret: str | None = None
    timeout_s: float = 60.0
    vertexai: bool = False

    def __post_init__(self) -> None:
        if self.timeout_s <= 0:
            raise ConfigError(f"--timeout {self.timeout_s:g}: give seconds above 0")
        if bool(self.vertex_project) != bool(self.vertex_location):
            raise ConfigError(
                "--vertex-project and --vertex-location go together; "
                "leave both out for express mode with a key"
            )
        if self.vertex_project and not self.vertexai:
            raise ConfigError("--vertex-project needs --vertexai")
        # Both stand in the URL that gets the credentials: the location in the name of its host.
        if not re.fullmatch(r"[\w.:-]*", self.vertex_project or "", re.ASCII):
            raise ConfigError("--vertex-project takes the id of a project, such as my-project-1")
        if not re.fullmatch(r"[a-z0-9-]*", self.vertex_location or ""):
            raise ConfigError("--vertex-location takes the name of a region, such as us-central1")
        if not re.fullmatch(r"[\w.-]*", self.api_version or "", re.ASCII):
            raise ConfigError("--api-version takes a version, such as v1 or v1beta")
        self._check_secret()
        self._check_url()

    def _check_secret(self) -> None:
        if self.api_key_secret is None:
            return
        if self.api_key_file:
            raise ConfigError("--api-key-file and --api-key-secret: give one of them")
        if not re.fullmatch(
            r"projects/[^/\s]+/secrets/[\w-]+(/versions/[\w-]+)?", self.api_key_secret
        ):
            # The words are not shown: somebody may have put the key itself there.
            raise ConfigError(
                "--api-key-secret takes the name of a secret, projects/PROJECT/secrets/NAME"
            )

    def _check_url(self) -> None:
        """Raises ConfigError for a base URL that is none, or that holds what may be a secret."""
        try:
            parts = urllib.parse.urlsplit(self.base_url or "")
            is_url = self.base_url is None or (self.host is not None and parts.port != 0)
        except ValueError:  # Such as a port beyond 65535.
            is_url = False
        if self.base_url is not None and not is_url:
            raise ConfigError(
                f"--base-url {without_credentials(self.base_url)!r} is no URL; write https://host "
                "or http://host:port"
            )
        if parts.username or parts.password or parts.query:
            raise ConfigError(
                f"--base-url with a user, a password or a query (at {parts.hostname}): it would "
                "stand in run.json; leave them out, and give the key in the environment"
            )

    def predicts(self, spec: ModelSpec) -> bool:
        """Whether calls go to the `:predict` of Vertex AI."""
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
        """Whether the base URL is on this machine, where no key need be set."""
        return self.host in ("127.0.0.1", "localhost", "::1")

    @property
    def needs_key(self) -> bool:
        """Whether a key must be found before anything can be sent."""
        if self.kind is Service.EMULATOR or self.is_loopback:
            return False
        return not (self.vertexai and self.vertex_project)

    @property
    def identity(self) -> str:
        """What stands for the service in the embedding digest: ports are set aside."""
        return f"{self.kind}:{self.host}" if self.kind is Service.CUSTOM else str(self.kind)


BYTES_A_TOKEN = 4
"""UTF-8 bytes that are counted as a token where texts are cut: four letters of English, two of
Russian, one and a third of Chinese.  The same in every run, whatever runs have learnt, so that a
text is cut in the same way each time.  No tokenizer makes more tokens of a text than it has bytes.
"""
LEAST_TOKENS = 16
DEFAULT_TOKENS = 512
"""What a passage has that is to be found by itself; 2,048 bytes, which every model takes whole."""
DEFAULT_OVERLAP = 64


@dataclasses.dataclass(frozen=True, slots=True)
class PassageSize:
    """The most tokens of a passage, title and prefix with it, and of what it repeats of the last.

    A token is BYTES_A_TOKEN bytes.

    Raises:
        ConfigError: sizes that no text can be cut to.
    """

    tokens: int
    overlap: int

    def __post_init__(self) -> None:
        if self.tokens < LEAST_TOKENS:
            raise ConfigError(f"--passage-tokens {self.tokens}: give {LEAST_TOKENS} or more")
        if not 0 <= self.overlap < self.tokens // 2:
            raise ConfigError(
                f"--passage-overlap {self.overlap}: give 0 to {self.tokens // 2 - 1}, less than "
                f"half of the {self.tokens} tokens of a passage"
            )

    @property
    def most_bytes(self) -> int:
        """Of a passage, title and prefix with it."""
        return self.tokens * BYTES_A_TOKEN

    @property
    def overlap_bytes(self) -> int:
        """The most that a passage repeats of the one before it."""
        return self.overlap * BYTES_A_TOKEN


@dataclasses.dataclass(frozen=True, slots=True)
class EmbeddingConfig:
    """Everything that decides what vector a text gets.

    `dim` None asks for the model's own length, and `passage_tokens` and `passage_overlap` None for
    what fits.  Two runs may share a dataset only if `digest` is equal.

    Raises:
        ConfigError: the model does not take this dim, task type or title.
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

    def __post_init__(self) -> None:
        spec = self.spec
        spec.check_dim(self.dim)
        if self.has_titles and self.task_type is not TaskType.RETRIEVAL_DOCUMENT:
            raise ConfigError(
                f"--title-column goes with --task-type RETRIEVAL_DOCUMENT only, "
                f"not with {self.task_type}; leave --title-column out"
            )
        if spec.vertex_only and self.service == Service.DEVELOPER:
            raise ConfigError(
                f"--model {spec.name} is served by Vertex AI only; add --vertexai, "
                f"or choose {spec.successor}"
            )
        self._check_passages()

    def _check_passages(self) -> None:
        size, most = self.passages, self.spec.max_tokens
        if size is None and (self.passage_tokens, self.passage_overlap) != (None, None):
            raise ConfigError(
                "--passage-tokens and --passage-overlap go with --long-text passages or mean only"
            )
        if size is not None and size.tokens > most:
            raise ConfigError(
                f"--passage-tokens {size.tokens}: {self.spec.name} takes {most}, and up to "
                f"{most // BYTES_A_TOKEN} nothing can be cut off"
            )
        if self.long_text is LongText.MEAN and not self.normalize:
            raise ConfigError(
                "--long-text mean brings vectors to unit length: leave --no-normalize out"
            )

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> EmbeddingConfig:
        """Return the configuration whose `facts` were pinned.

        Raises:
            KeyError, ValueError: they are not such facts.
            ConfigError: as the class.
        """
        return from_plain({**facts, "has_titles": facts["titles"]}, cls)

    @property
    def spec(self) -> ModelSpec:
        """What is known of the model."""
        return find_model(self.model)

    @property
    def out_dim(self) -> int | None:
        """The length of a vector; None where only the first answer tells."""
        return self.dim or self.spec.default_dim or None

    @property
    def sent_task_type(self) -> TaskType | None:
        """The task type of the request's field; None for models that want a prefix."""
        return self.task_type if self.spec.prefixes is None else None

    @property
    def sent_dim(self) -> int | None:
        """The dim of the request's field; None where the model's own is wanted."""
        return None if self.dim == self.spec.default_dim else self.dim

    @property
    def prefix(self) -> str | None:
        """What stands before each text; None for models that take a task type."""
        prefixes = self.spec.prefixes
        return None if prefixes is None else prefixes[self.task_type]

    @property
    def rows_are_passages(self) -> bool:
        """Whether a row of the output is a passage."""
        return self.long_text is LongText.PASSAGES

    @property
    def passages(self) -> PassageSize | None:
        """How long texts are cut; None where they are not.

        For a mean: into as few passages as have no more bytes than the model takes tokens, so that
        none of them can be cut off.
        """
        if not self.long_text.cuts:
            return None
        tokens, overlap = DEFAULT_TOKENS, DEFAULT_OVERLAP
        if not self.rows_are_passages:
            tokens, overlap = self.spec.max_tokens // BYTES_A_TOKEN, 0
        tokens = tokens if self.passage_tokens is None else self.passage_tokens
        overlap = (
            min(overlap, tokens // 8) if self.passage_overlap is None else self.passage_overlap
        )
        return PassageSize(tokens, overlap)

    def facts(self) -> dict[str, object]:
        """The settings behind the digest, as they are pinned and compared."""
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
        }

    @property
    def digest(self) -> str:
        """16 hex digits, equal exactly for settings whose vectors may stand side by side."""
        return digest_of(self.facts())


def digest_of(facts: dict[str, object]) -> str:
    """16 hex digits over a JSON object, whatever the order of its keys."""
    canonical = json.dumps(facts, sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()
