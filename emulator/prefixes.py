"""The task as gemini-embedding-2 is told it: by words before the text.

Source: ai.google.dev/gemini-api/docs/embeddings, 2026-11.
"""

from __future__ import annotations

import re

from schemas.models import TaskType

_TASKS = {
    "search result": TaskType.RETRIEVAL_QUERY,
    "question answering": TaskType.QUESTION_ANSWERING,
    "fact checking": TaskType.FACT_VERIFICATION,
    "code retrieval": TaskType.CODE_RETRIEVAL_QUERY,
    "classification": TaskType.CLASSIFICATION,
    "clustering": TaskType.CLUSTERING,
    "sentence similarity": TaskType.SEMANTIC_SIMILARITY,
}
_QUERY = re.compile(r"task: ([a-z ]+) \| query: ")
_DOCUMENT = re.compile(r"title: (.*?) \| text: ", re.DOTALL)


def read_prefix(text: str) -> tuple[str, str]:
    """The task and what is to be embedded; without a prefix no task and the text as it is.

    A document's title is part of what is embedded, but for `none`.
    """
    query = _QUERY.match(text)
    if query and query[1] in _TASKS:
        return _TASKS[query[1]], text[query.end() :]
    document = _DOCUMENT.match(text)
    if document:
        title = "" if document[1] == "none" else document[1] + "\n"
        return TaskType.RETRIEVAL_DOCUMENT, title + text[document.end() :]
    return "", text
