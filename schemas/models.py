"""The registry of embedding models: everything that bulkembed knows about a model.

A new model is one more `ModelSpec`. No other module knows a model by its name.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import difflib
import enum
import functools
from collections.abc import Mapping

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.media import SAME_PRICE, MediaFactors


class TaskType(enum.StrEnum):
    """What the vectors are used for, as the service names it.

    Source: ai.google.dev/gemini-api/docs/embeddings, 2026-11.
    """

    SEMANTIC_SIMILARITY = "SEMANTIC_SIMILARITY"
    CLASSIFICATION = "CLASSIFICATION"
    CLUSTERING = "CLUSTERING"
    RETRIEVAL_DOCUMENT = "RETRIEVAL_DOCUMENT"
    RETRIEVAL_QUERY = "RETRIEVAL_QUERY"
    QUESTION_ANSWERING = "QUESTION_ANSWERING"
    FACT_VERIFICATION = "FACT_VERIFICATION"
    CODE_RETRIEVAL_QUERY = "CODE_RETRIEVAL_QUERY"


def query_task(corpus: TaskType) -> TaskType:
    """Return the task type of a query that is to be compared with a corpus.

    Queries for documents have their own task type; QUESTION_ANSWERING, FACT_VERIFICATION and
    CODE_RETRIEVAL_QUERY are alternatives to it. In every other corpus, a query has the task type
    of the corpus.
    """
    return TaskType.RETRIEVAL_QUERY if corpus is TaskType.RETRIEVAL_DOCUMENT else corpus


class TaskStyle(enum.StrEnum):
    """How a request names the task."""

    FIELD = "field"
    """In the request's `taskType`."""
    PREFIX = "prefix"
    """In words before the text. The model ignores `taskType`."""


class UnitLength(enum.StrEnum):
    """For which dimensions the service itself returns vectors of length 1."""

    ALWAYS = "always"
    DEFAULT_DIM = "default dim"
    NEVER = "never"


class VertexMethod(enum.StrEnum):
    """The method of Vertex AI that embeds."""

    EMBED_CONTENT = "embedContent"
    PREDICT = "predict"


TITLE = "{title}"
"""The place of a document's title in a prefix."""
MAX_TEXTS = 100
"""The maximum texts of a `batchEmbedContents`. Source: the service's own 400, 2026-11."""
MAX_BODY_BYTES = 4_194_304
"""The maximum bytes of a request's body. Source: the service's own 400, 2026-11."""
PREDICT_TEXTS = 250
PREDICT_TOKENS = 20_000
"""The maximum texts and tokens of a `predict`. Source: cloud.google.com/vertex-ai, 2026-11."""

DefaultQuota = tuple[int | None, int | None, int | None]
"""Requests per minute, tokens per minute, requests per day; None: no limit."""


@dataclasses.dataclass(frozen=True, slots=True)
class ModelSpec:
    """One embedding model as the service documents it."""

    name: str
    default_dim: int
    """The dimensions of a vector if the request names none; 0 if they are not known."""
    min_dim: int
    max_tokens: int
    """The maximum tokens of one text."""
    prefixes: Mapping[TaskType, str] | None = dataclasses.field(default=None, hash=False)
    """The words before a text that name the task, with TITLE where the title goes. None: the
    model takes the request's `taskType`."""
    no_title: str = "none"
    """Replaces TITLE if a document has no title."""
    unit_length: UnitLength = UnitLength.NEVER
    max_texts: int = MAX_TEXTS
    max_body_bytes: int = MAX_BODY_BYTES
    vertex_methods: tuple[VertexMethod, ...] = (VertexMethod.EMBED_CONTENT,)
    """The SDK calls the first one, see `vertex_method`."""
    predict_texts: int = PREDICT_TEXTS
    predict_tokens: int = PREDICT_TOKENS
    vertex_quota: DefaultQuota = (None, None, None)
    """The default quota of a project on Vertex AI; new projects get less.

    Source: cloud.google.com/vertex-ai/generative-ai/docs/quotas, 2026-11.
    """
    price: float | None = None
    """USD per million input tokens; None: not sold."""
    batch_price: float | None = None
    """The same for the Batch API."""
    shut_down: dt.date | None = None
    """The day from which the service answers 404; in the future if the model is still served."""
    successor: str | None = None
    vertex_only: bool = False
    media_factors: MediaFactors = SAME_PRICE
    """The prices of media. PDF pages are on no price list, and counted as images."""
    takes_media: bool = False
    """Whether a content may have images, audio, video and PDF files; if not, only text."""
    known: bool = True
    """Whether the registry has the model; if not, most of this is a guess."""
    advised_dims: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        missing = [] if self.prefixes is None else sorted(set(TaskType) - self.prefixes.keys())
        if missing:
            raise ValueError(
                f"{self.name}: the prefixes lack {', '.join(missing)}. Add one for each task type."
            )

    @property
    def max_dim(self) -> int:
        """Maximum dimensions of a vector; they are the default ones."""
        return self.default_dim

    @property
    def task_style(self) -> TaskStyle:
        """How a request names the task."""
        return TaskStyle.FIELD if self.prefixes is None else TaskStyle.PREFIX

    @property
    def vertex_method(self) -> VertexMethod:
        """The method that the SDK calls on Vertex AI."""
        return self.vertex_methods[0]

    def is_shut_down(self, today: dt.date) -> bool:
        """Return whether the service no longer serves the model on that day."""
        return self.shut_down is not None and today >= self.shut_down

    def dims(self) -> str:
        """Return the allowed dimensions, for messages."""
        if not self.known:
            return "any"
        if self.min_dim == self.max_dim:
            return str(self.default_dim)
        return f"{self.min_dim}..{self.max_dim}"

    def check_dim(self, dim: int | None) -> None:
        """Check that the model has vectors of these dimensions; they may be undocumented.

        Raises:
            ConfigError: the model has no vectors of these dimensions.
        """
        least = self.min_dim if self.min_dim == self.max_dim else 1
        if dim is None or not self.known or least <= dim <= self.max_dim:
            return
        raise ConfigError(
            f"--dim {dim}: {self.name} supports {self.dims()}"
            + (f" (advised: {', '.join(map(str, self.advised_dims))})" if self.advised_dims else "")
            + f". Leave --dim out to get {self.default_dim}."
        )

    def dim_warning(self, dim: int | None) -> str | None:
        """Return a sentence about a dim below the documented range, or None within the range.

        The service accepts such a dim. Source: google-genai's own tests request 10 and 100
        dimensions of gemini-embedding-001 and -2, 2026-11.
        """
        if dim is None or not self.known or dim >= self.min_dim:
            return None
        return (
            f"dim {dim} is below the range that Google documents for {self.name} ({self.dims()}). "
            "The service accepted it when this was tested, but does not promise to"
        )

    def gives_unit_length(self, dim: int) -> bool:
        """Return whether the service itself returns vectors of length 1 for this dim."""
        return self.unit_length is UnitLength.ALWAYS or (
            self.unit_length is UnitLength.DEFAULT_DIM and dim == self.default_dim
        )


_GEMINI_DIMS = (768, 1536)
_EITHER = (VertexMethod.EMBED_CONTENT, VertexMethod.PREDICT)

_GEMINI_2_PREFIXES: Mapping[TaskType, str] = {
    TaskType.SEMANTIC_SIMILARITY: "task: sentence similarity | query: ",
    TaskType.CLASSIFICATION: "task: classification | query: ",
    TaskType.CLUSTERING: "task: clustering | query: ",
    TaskType.RETRIEVAL_DOCUMENT: f"title: {TITLE} | text: ",
    TaskType.RETRIEVAL_QUERY: "task: search result | query: ",
    TaskType.QUESTION_ANSWERING: "task: question answering | query: ",
    TaskType.FACT_VERIFICATION: "task: fact checking | query: ",
    TaskType.CODE_RETRIEVAL_QUERY: "task: code retrieval | query: ",
}
"""Source: ai.google.dev/gemini-api/docs/embeddings, 2026-11."""

_GEMINI_2_MEDIA = MediaFactors(image=0.45 / 0.20, audio=6.50 / 0.20, video=12.00 / 0.20)
"""Source: ai.google.dev/gemini-api/docs/pricing, 2026-11."""

_MODELS = (
    ModelSpec(
        "embedding-001", 768, 768, 2048, vertex_methods=(VertexMethod.PREDICT,),
        shut_down=dt.date(2025, 10, 30), successor="gemini-embedding-001", price=0.0,
    ),
    ModelSpec(
        "text-embedding-004", 768, 1, 2048, unit_length=UnitLength.DEFAULT_DIM,
        vertex_methods=(VertexMethod.PREDICT,),
        shut_down=dt.date(2026, 1, 14), successor="gemini-embedding-001", price=0.0,
    ),
    ModelSpec(
        "gemini-embedding-exp-03-07", 3072, 128, 8192, unit_length=UnitLength.DEFAULT_DIM,
        vertex_methods=_EITHER, predict_texts=1,
        shut_down=dt.date(2025, 10, 30), successor="gemini-embedding-001", price=0.0,
        advised_dims=_GEMINI_DIMS,
    ),
    ModelSpec(
        "gemini-embedding-001", 3072, 128, 2048, unit_length=UnitLength.DEFAULT_DIM,
        # Google's page on text embeddings: one text in a `predict`, 2026-11.
        vertex_methods=_EITHER, predict_texts=1, vertex_quota=(None, 5_000_000, None),
        price=0.15, batch_price=0.075, advised_dims=_GEMINI_DIMS,
    ),
    ModelSpec(
        "gemini-embedding-2-preview", 3072, 128, 8192, _GEMINI_2_PREFIXES,
        unit_length=UnitLength.ALWAYS, price=0.20, batch_price=0.10,
        shut_down=dt.date(2026, 8, 10), successor="gemini-embedding-2",
        takes_media=True, media_factors=_GEMINI_2_MEDIA,
        advised_dims=_GEMINI_DIMS,
    ),
    ModelSpec(
        "gemini-embedding-2", 3072, 128, 8192, _GEMINI_2_PREFIXES,
        unit_length=UnitLength.ALWAYS, vertex_quota=(40_000, 10_000_000, None),
        price=0.20, batch_price=0.10, takes_media=True, media_factors=_GEMINI_2_MEDIA,
        advised_dims=_GEMINI_DIMS,
    ),
    ModelSpec(
        "text-embedding-005", 768, 1, 2048, unit_length=UnitLength.DEFAULT_DIM, vertex_only=True,
        vertex_methods=(VertexMethod.PREDICT,),
        shut_down=dt.date(2027, 4, 1), successor="gemini-embedding-001",
    ),
    ModelSpec(
        "text-multilingual-embedding-002", 768, 1, 2048, unit_length=UnitLength.DEFAULT_DIM,
        vertex_methods=(VertexMethod.PREDICT,), vertex_only=True,
        shut_down=dt.date(2027, 4, 1), successor="gemini-embedding-001",
    ),
)  # fmt: skip
"""Source: ai.google.dev/gemini-api/docs/models, /pricing and /deprecations, 2026-11."""

MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in _MODELS}
DEFAULT_MODEL = "gemini-embedding-001"
MEDIA_MODEL = "gemini-embedding-2"
"""The model to use for media."""


def bare_name(name: str) -> str:
    """Return a model's id without the `models/` or `publishers/google/models/` before it."""
    return name.rsplit("models/", 1)[-1]


def nearest_models(name: str) -> list[str]:
    """Return the known models with the most similar names, the nearest first."""
    return difflib.get_close_matches(bare_name(name).lower(), MODELS, n=2, cutoff=0.75)


def largest_dim() -> int:
    """Return the maximum dimensions of all models, a bound for those of an unknown one."""
    return max(spec.max_dim for spec in MODELS.values())


@functools.lru_cache(maxsize=64)
def find_model(name: str) -> ModelSpec:
    """Return the entry of a model, or a guess for a model that the registry does not have.

    The guess depends on the family of the name. A name that begins with `gemini-embedding-2` is
    assumed to need the prefixes of that model.

    Source: google-genai 3.4.0, `t_is_vertex_embed_content_model`, for the method on Vertex AI.
    """
    name = bare_name(name)
    if name in MODELS:
        return MODELS[name]
    prefixes = _GEMINI_2_PREFIXES if name.startswith("gemini-embedding-2") else None
    embeds = "gemini" in name or "maas" in name
    method = VertexMethod.EMBED_CONTENT if embeds else VertexMethod.PREDICT
    return ModelSpec(
        name, 0, 0, 2048, prefixes, vertex_methods=(method,),
        takes_media=prefixes is not None, known=False,
    )  # fmt: skip
