"""Every Gemini embedding model: dims, tokens, task types, price, state and successor."""

from __future__ import annotations

import dataclasses
import datetime as dt
import difflib
import enum
import functools

from bulkembed.schemas.errors import ConfigError


class TaskType(enum.StrEnum):
    """What the vectors are for, in the service's words.

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
    """The task type of a query that is to be compared with a corpus.

    Documents have queries of their own kind (QUESTION_ANSWERING, FACT_VERIFICATION and
    CODE_RETRIEVAL_QUERY go with them as well); all others are compared with their like.
    """
    return TaskType.RETRIEVAL_QUERY if corpus is TaskType.RETRIEVAL_DOCUMENT else corpus


PREFIXES: dict[TaskType, str] = {
    TaskType.SEMANTIC_SIMILARITY: "task: sentence similarity | query: ",
    TaskType.CLASSIFICATION: "task: classification | query: ",
    TaskType.CLUSTERING: "task: clustering | query: ",
    TaskType.RETRIEVAL_DOCUMENT: "title: {title} | text: ",
    TaskType.RETRIEVAL_QUERY: "task: search result | query: ",
    TaskType.QUESTION_ANSWERING: "task: question answering | query: ",
    TaskType.FACT_VERIFICATION: "task: fact checking | query: ",
    TaskType.CODE_RETRIEVAL_QUERY: "task: code retrieval | query: ",
}
"""How gemini-embedding-2 is told the task; a document's title is `none` where it has none.

Source: ai.google.dev/gemini-api/docs/embeddings, 2026-11.
"""


class TaskStyle(enum.StrEnum):
    """How a model is told the task."""

    FIELD = "field"
    """By the request's `taskType`."""
    PREFIX = "prefix"
    """By words before the text; the model ignores `taskType`."""


@dataclasses.dataclass(frozen=True, slots=True)
class ModelSpec:
    """One embedding model as the service documents it.

    `unit_dims` says at which output dims the service itself gives unit length: "all", "none", or
    "default" for the default dim alone.  Prices are USD per million input tokens; None: not sold.
    """

    name: str
    default_dim: int
    """The length of a vector where none is asked for; 0 where it is not known."""
    min_dim: int
    max_tokens: int
    task_style: TaskStyle = TaskStyle.FIELD
    unit_dims: str = "none"
    price: float | None = None
    batch_price: float | None = None
    shut_down: dt.date | None = None
    """The day from which the service answers 404; in the future for a model still served."""
    successor: str | None = None
    vertex_only: bool = False
    known: bool = True
    advised_dims: tuple[int, ...] = ()

    @property
    def max_dim(self) -> int:
        """The largest output dim, which is the default one."""
        return self.default_dim

    def is_shut_down(self, today: dt.date) -> bool:
        """Whether the service no longer serves the model on that day."""
        return self.shut_down is not None and today >= self.shut_down

    def dims(self) -> str:
        """The allowed dims as people write them."""
        if not self.known:
            return "any"
        if self.min_dim == self.max_dim:
            return str(self.default_dim)
        return f"{self.min_dim}..{self.max_dim}"

    def check_dim(self, dim: int | None) -> None:
        """Refuse a length that no service gives; `dim_warning` is about undocumented ones.

        Raises:
            ConfigError: the model has no vectors of that length.
        """
        least = self.min_dim if self.min_dim == self.max_dim else 1
        if dim is None or not self.known or least <= dim <= self.max_dim:
            return
        raise ConfigError(
            f"--dim {dim}: {self.name} takes {self.dims()}"
            + (f" ({', '.join(map(str, self.advised_dims))} advised)" if self.advised_dims else "")
            + f"; leave --dim out for {self.default_dim}"
        )

    def dim_warning(self, dim: int | None) -> str | None:
        """Return a sentence about a dim below the documented range, which the service serves.

        Source: google-genai's own tests ask gemini-embedding-001 and -2 for 10 and 100, 2026-11.
        """
        if dim is None or not self.known or dim >= self.min_dim:
            return None
        return (
            f"dim {dim} is below what Google documents for {self.name} ({self.dims()}); the "
            "service has been seen to take it, without a promise"
        )

    def gives_unit_length(self, dim: int) -> bool:
        """Whether the service is known to bring vectors of this dim to unit length itself."""
        return self.unit_dims == "all" or (self.unit_dims == "default" and dim == self.default_dim)


_GEMINI_DIMS = (768, 1536)

_MODELS = (
    ModelSpec(
        "embedding-001", 768, 768, 2048,
        shut_down=dt.date(2025, 10, 30), successor="gemini-embedding-001", price=0.0,
    ),
    ModelSpec(
        "text-embedding-004", 768, 1, 2048, unit_dims="default",
        shut_down=dt.date(2026, 1, 14), successor="gemini-embedding-001", price=0.0,
    ),
    ModelSpec(
        "gemini-embedding-exp-03-07", 3072, 128, 8192, unit_dims="default",
        shut_down=dt.date(2025, 10, 30), successor="gemini-embedding-001", price=0.0,
        advised_dims=_GEMINI_DIMS,
    ),
    ModelSpec(
        "gemini-embedding-001", 3072, 128, 2048, unit_dims="default",
        price=0.15, batch_price=0.075, advised_dims=_GEMINI_DIMS,
    ),
    ModelSpec(
        "gemini-embedding-2-preview", 3072, 128, 8192, TaskStyle.PREFIX, "all",
        price=0.20, batch_price=0.10,
        shut_down=dt.date(2026, 8, 10), successor="gemini-embedding-2",
        advised_dims=_GEMINI_DIMS,
    ),
    ModelSpec(
        "gemini-embedding-2", 3072, 128, 8192, TaskStyle.PREFIX, "all",
        price=0.20, batch_price=0.10, advised_dims=_GEMINI_DIMS,
    ),
    ModelSpec(
        "text-embedding-005", 768, 1, 2048, unit_dims="default", vertex_only=True,
        shut_down=dt.date(2027, 4, 1), successor="gemini-embedding-001",
    ),
    ModelSpec(
        "text-multilingual-embedding-002", 768, 1, 2048, unit_dims="default", vertex_only=True,
        shut_down=dt.date(2027, 4, 1), successor="gemini-embedding-001",
    ),
)  # fmt: skip
"""Source: ai.google.dev/gemini-api/docs/models, /pricing and /deprecations, 2026-11."""

MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in _MODELS}
DEFAULT_MODEL = "gemini-embedding-001"


def bare_name(name: str) -> str:
    """A model's id without the `models/` or `publishers/google/models/` before it."""
    return name.rsplit("models/", 1)[-1]


def nearest_models(name: str) -> list[str]:
    """Return the known models whose names are most like a name, the nearest first; [] if none."""
    return difflib.get_close_matches(bare_name(name).lower(), MODELS, n=2, cutoff=0.75)


@functools.lru_cache(maxsize=64)
def find_model(name: str) -> ModelSpec:
    """The registry's entry, or a permissive one for a model that the registry does not know.

    An unknown model is taken to write its task as the family does: a name that begins with
    `gemini-embedding-2` wants prefixes.
    """
    name = bare_name(name)
    if name in MODELS:
        return MODELS[name]
    style = TaskStyle.PREFIX if name.startswith("gemini-embedding-2") else TaskStyle.FIELD
    return ModelSpec(name, 0, 0, 2048, style, known=False)
