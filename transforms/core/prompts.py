"""What is sent for a row: the text with its task written before it where the model wants that."""

from __future__ import annotations

from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.models import TaskType

NO_TITLE = "none"
"""What a document without a title says for it in a prefix."""


def as_sent(config: EmbeddingConfig, title: str | None, text: str) -> tuple[str | None, str]:
    """The title and the text of the request; the title is None where the prefix holds it.

    A title of white space is none.

    Source: ai.google.dev/gemini-api/docs/embeddings (task prefixes), 2026-11.
    """
    title = title if title and not title.isspace() else None
    prefix = config.prefix
    if prefix is None:
        return title, text
    if config.task_type is TaskType.RETRIEVAL_DOCUMENT:
        # Not str.format: a title may hold braces.
        prefix = prefix.replace("{title}", title or NO_TITLE)
    return None, prefix + text
