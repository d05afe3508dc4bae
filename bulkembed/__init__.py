"""The public names of bulkembed, for use in your own pipelines; see docs/library.md.

Each name is imported when it is first used, so that importing this package is fast: it loads
neither Beam nor google-genai.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bulkembed.pipeline.api import changes, run, status
    from bulkembed.schemas.dead_letters import DeadCode, DeadLetter
    from bulkembed.schemas.embedding import LongText, ServiceConfig
    from bulkembed.schemas.errors import (
        BadAnswer,
        BulkEmbedError,
        CallError,
        CallRejected,
        ConfigError,
        InputError,
        JobRejected,
        OutputError,
        OutputLocked,
        QuotaExceeded,
        RunStopped,
        TooManyDeletes,
        Unavailable,
    )
    from bulkembed.schemas.fetch_settings import FetchSettings
    from bulkembed.schemas.job import JobConfig
    from bulkembed.schemas.media_settings import MediaSettings
    from bulkembed.schemas.models import TaskType
    from bulkembed.schemas.quota import Pace, QuotaLimits, RpmCounts
    from bulkembed.schemas.stop import ExitCode
    from bulkembed.transforms.clients.transport import service_from
    from bulkembed.transforms.embed_rows import EmbedRows, Gemini
    from bulkembed.transforms.embed_units import EmbedUnits
    from bulkembed.transforms.gemini_embeddings import GeminiEmbeddings

    __version__: str

__all__ = [
    "BadAnswer",
    "BulkEmbedError",
    "CallError",
    "CallRejected",
    "ConfigError",
    "DeadCode",
    "DeadLetter",
    "EmbedRows",
    "EmbedUnits",
    "ExitCode",
    "FetchSettings",
    "Gemini",
    "GeminiEmbeddings",
    "InputError",
    "JobConfig",
    "JobRejected",
    "LongText",
    "MediaSettings",
    "OutputError",
    "OutputLocked",
    "Pace",
    "QuotaExceeded",
    "QuotaLimits",
    "RpmCounts",
    "RunStopped",
    "ServiceConfig",
    "TaskType",
    "TooManyDeletes",
    "Unavailable",
    "__version__",
    "changes",
    "run",
    "service_from",
    "status",
]

_HOMES = {
    "bulkembed.schemas.dead_letters": ("DeadCode", "DeadLetter"),
    "bulkembed.schemas.embedding": ("LongText", "ServiceConfig"),
    "bulkembed.schemas.errors": (
        "BadAnswer",
        "BulkEmbedError",
        "CallError",
        "CallRejected",
        "ConfigError",
        "InputError",
        "JobRejected",
        "OutputError",
        "OutputLocked",
        "QuotaExceeded",
        "RunStopped",
        "TooManyDeletes",
        "Unavailable",
    ),
    "bulkembed.schemas.fetch_settings": ("FetchSettings",),
    "bulkembed.schemas.job": ("JobConfig",),
    "bulkembed.schemas.media_settings": ("MediaSettings",),
    "bulkembed.schemas.models": ("TaskType",),
    "bulkembed.schemas.quota": ("Pace", "QuotaLimits", "RpmCounts"),
    "bulkembed.schemas.stop": ("ExitCode",),
    "bulkembed.pipeline.api": ("changes", "run", "status"),
    "bulkembed.transforms.clients.transport": ("service_from",),
    "bulkembed.transforms.embed_rows": ("EmbedRows", "Gemini"),
    "bulkembed.transforms.embed_units": ("EmbedUnits",),
    "bulkembed.transforms.gemini_embeddings": ("GeminiEmbeddings",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name == "__version__":
        found: Any = importlib.import_module("importlib.metadata").version("bulkembed")
    elif name in _HOME_OF:
        found = getattr(importlib.import_module(_HOME_OF[name]), name)
    else:
        raise AttributeError(f"module 'bulkembed' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return all public names, including those that are not imported yet."""
    return sorted({*globals(), *__all__})
