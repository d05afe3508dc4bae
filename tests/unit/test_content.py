from __future__ import annotations

import pytest

from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.models import MODELS, TaskStyle, TaskType
from bulkembed.transforms.core.content import as_sent, sent_hash, sent_hasher
from bulkembed.transforms.core.hashing import text_hash

WRITTEN = {
    TaskType.RETRIEVAL_QUERY: "task: search result | query: x",
    TaskType.QUESTION_ANSWERING: "task: question answering | query: x",
    TaskType.FACT_VERIFICATION: "task: fact checking | query: x",
    TaskType.CODE_RETRIEVAL_QUERY: "task: code retrieval | query: x",
    TaskType.CLASSIFICATION: "task: classification | query: x",
    TaskType.CLUSTERING: "task: clustering | query: x",
    TaskType.SEMANTIC_SIMILARITY: "task: sentence similarity | query: x",
    TaskType.RETRIEVAL_DOCUMENT: "title: none | text: x",
}
"""How gemini-embedding-2 wants the text "x" written."""
FIELD_MODELS = [name for name, spec in MODELS.items() if spec.task_style is TaskStyle.FIELD]
PREFIX_MODELS = [name for name, spec in MODELS.items() if spec.task_style is TaskStyle.PREFIX]


def config(model: str, task_type: TaskType = TaskType.RETRIEVAL_DOCUMENT) -> EmbeddingConfig:
    return EmbeddingConfig(service="vertex", model=model, task_type=task_type)


def test_the_table_above_names_every_task_type() -> None:
    assert WRITTEN.keys() == set(TaskType)


@pytest.mark.parametrize("task_type", TaskType)
@pytest.mark.parametrize("model", ["gemini-embedding-2-preview", "gemini-embedding-2"])
def test_gemini_embedding_2_has_the_task_written_before_the_text(
    model: str, task_type: TaskType
) -> None:
    assert as_sent(config(model, task_type), None, "x") == (None, WRITTEN[task_type])


@pytest.mark.parametrize("task_type", TaskType)
@pytest.mark.parametrize("model", PREFIX_MODELS)
def test_a_model_with_prefixes_gets_no_task_type_in_a_field(
    model: str, task_type: TaskType
) -> None:
    made = config(model, task_type)
    assert made.prefix == (MODELS[model].prefixes or {})[task_type]
    assert made.sent_task_type is None


@pytest.mark.parametrize("model", FIELD_MODELS)
@pytest.mark.parametrize("task_type", TaskType)
def test_other_models_get_the_text_exactly_as_it_is(model: str, task_type: TaskType) -> None:
    made = config(model, task_type)
    assert as_sent(made, None, " x\n") == (None, " x\n")
    assert made.sent_task_type is task_type
    assert made.prefix is None


def test_a_title_goes_into_the_prefix_whatever_it_holds() -> None:
    made = config("gemini-embedding-2")
    assert as_sent(made, "On {title} | text: ", "x") == (
        None,
        "title: On {title} | text:  | text: x",
    )
    assert as_sent(made, "", "x") == (None, "title: none | text: x")


def test_a_title_stays_beside_the_text_for_models_that_take_titles() -> None:
    made = config("gemini-embedding-001")
    assert as_sent(made, "T", "x") == ("T", "x")
    assert as_sent(made, "", "x") == (None, "x")


@pytest.mark.parametrize("title", [None, "", " ", "\n\t", "\u00a0\u3000"])
def test_a_blank_title_is_none(title: str | None) -> None:
    assert as_sent(config("gemini-embedding-001"), title, "x") == (None, "x")
    assert as_sent(config("gemini-embedding-2"), title, "x") == (None, "title: none | text: x")


@pytest.mark.parametrize("model", [FIELD_MODELS[0], *PREFIX_MODELS])
@pytest.mark.parametrize("task", [TaskType.RETRIEVAL_DOCUMENT, TaskType.CLUSTERING])
@pytest.mark.parametrize("title", [None, "", " ", "A {title}"])
def test_a_hasher_returns_the_hash_of_what_is_sent(
    model: str, task: TaskType, title: str | None
) -> None:
    embedding = config(model, task)
    expected = text_hash(*as_sent(embedding, title, "text"))
    assert sent_hasher(embedding)(title, "text") == sent_hash(embedding, title, "text") == expected
