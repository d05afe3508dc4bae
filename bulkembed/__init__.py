"""The names of bulkembed for pipelines of one's own; see docs/library.md.

Each is imported when it is first used: importing this package loads neither Beam nor google-genai.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from schemas.deadletters import DeadCode, DeadLetter
    from schemas.embedding import LongText, ServiceConfig
    from schemas.errors import (
        BadAnswer,
        BulkEmbedError,
        CallError,
        CallRefused,
        ConfigError,
        JobRefused,
        QuotaExceeded,
        Unavailable,
    )
    from schemas.job import JobConfig
    from schemas.models import TaskType
    from schemas.quota import Pace, QuotaLimits, RpmCounts
    from transforms.clients.service import service_from
    from transforms.embed_rows import EmbedRows
    from transforms.embed_units import EmbedUnits
    from transforms.gemini import Gemini
    from transforms.gemini_embeddings import GeminiEmbeddings

    __version__: str

__all__ = [
    "BadAnswer",
    "BulkEmbedError",
    "CallError",
    "CallRefused",
    "ConfigError",
    "DeadCode",
    "DeadLetter",
    "EmbedRows",
    "EmbedUnits",
    "Gemini",
    "GeminiEmbeddings",
    "JobConfig",
    "JobRefused",
    "LongText",
    "Pace",
    "QuotaExceeded",
    "QuotaLimits",
    "RpmCounts",
    "ServiceConfig",
    "TaskType",
    "Unavailable",
    "__version__",
    "service_from",
]

_HOMES = {
    "schemas.deadletters": ("DeadCode", "DeadLetter"),
    "schemas.embedding": ("LongText", "ServiceConfig"),
    "schemas.errors": (
        "BadAnswer",
        "BulkEmbedError",
        "CallError",
        "CallRefused",
        "ConfigError",
        "JobRefused",
        "QuotaExceeded",
        "Unavailable",
    ),
    "schemas.job": ("JobConfig",),
    "schemas.models": ("TaskType",),
    "schemas.quota": ("Pace", "QuotaLimits", "RpmCounts"),
    "transforms.clients.service": ("service_from",),
    "transforms.embed_rows": ("EmbedRows",),
    "transforms.embed_units": ("EmbedUnits",),
    "transforms.gemini": ("Gemini",),
    "transforms.gemini_embeddings": ("GeminiEmbeddings",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """The name from where it lives; it is kept, so that this is asked once."""
    if name == "__version__":
        found: Any = importlib.import_module("importlib.metadata").version("bulkembed")
    elif name in _HOME_OF:
        found = getattr(importlib.import_module(_HOME_OF[name]), name)
    else:
        raise AttributeError(f"module 'bulkembed' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """All names, those that are not imported yet as well."""
    return sorted({*globals(), *__all__})
