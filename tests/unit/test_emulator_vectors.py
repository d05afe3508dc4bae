from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.emulator.rules import read_prefix
from bulkembed.emulator.word_vectors import Floats, embed, words
from bulkembed.schemas.models import MODELS, ModelSpec, TaskType

DOG = "I took my dog to the vet"
CAT = "I took my cat to the vet"
SHARES = "The shares of the bank fell sharply"
SPECS = [pytest.param(spec, id=name) for name, spec in MODELS.items()]


def vectors(spec: ModelSpec, texts: list[str], task: str = "", dim: int | None = None) -> Floats:
    ids = words().token_ids(texts, spec.max_tokens)
    return embed(spec, dim or spec.default_dim, [task] * len(texts), ids)


def cosines(left: Floats, right: Floats) -> Floats:
    left = left / np.linalg.norm(left, axis=1, keepdims=True)
    right = right / np.linalg.norm(right, axis=1, keepdims=True)
    return np.asarray(left @ right.T)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("task", ["", *TaskType])
def test_the_dog_is_nearer_to_the_cat_than_to_the_shares(spec: ModelSpec, task: str) -> None:
    for dim in {spec.default_dim, max(spec.min_dim, 128)}:
        near = cosines(*[vectors(spec, [DOG, CAT, SHARES], task, dim)] * 2)
        assert near[0, 1] > near[0, 2] + 0.2


@pytest.mark.parametrize("spec", SPECS)
def test_a_task_keeps_cosines_and_changes_vectors(spec: ModelSpec) -> None:
    texts = [DOG, CAT, SHARES, "x", "漢字", "def f(): return 1"]
    means = words().means(words().token_ids(texts, 100))
    seen = []
    for task in ("", *TaskType):
        found = vectors(spec, texts, task)
        np.testing.assert_allclose(cosines(found, found), means @ means.T, atol=1e-5)
        seen.append(found[0].tobytes())
    assert len(set(seen)) == len(seen)


def test_models_do_not_share_vectors() -> None:
    seen = {vectors(spec, [DOG], dim=768)[0].tobytes() for spec in MODELS.values()}
    assert len(seen) == len(MODELS)


@pytest.mark.parametrize("query_task", [TaskType.RETRIEVAL_QUERY, TaskType.QUESTION_ANSWERING])
def test_a_query_finds_its_document(query_task: TaskType) -> None:
    spec = MODELS["gemini-embedding-001"]
    documents = [
        "Dogs and cats are vaccinated by a veterinarian every year.",
        "The central bank raised interest rates, and shares fell.",
        "Boil the pasta in salted water for nine minutes.",
        "A list comprehension builds a list from an iterable in Python.",
    ]
    queries = ["when must my cat see the vet?", "why did the stock market drop?",
               "how long do I cook spaghetti", "make a python list in one line"]  # fmt: skip
    found = cosines(
        vectors(spec, queries, query_task), vectors(spec, documents, TaskType.RETRIEVAL_DOCUMENT)
    )
    assert found.argmax(axis=1).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("spec", SPECS)
def test_a_shorter_vector_is_the_first_part_and_normalized_as_the_model_does(
    spec: ModelSpec,
) -> None:
    dim = max(spec.min_dim, 256)
    full, short = vectors(spec, [DOG])[0], vectors(spec, [DOG], dim=dim)[0]
    length = float(np.linalg.norm(short))
    if spec.gives_unit_length(dim):
        assert length == pytest.approx(1, abs=1e-6)
    elif dim < spec.default_dim:
        assert length < 0.8
    np.testing.assert_allclose(short / length, full[:dim] / np.linalg.norm(full[:dim]), atol=1e-6)


@given(st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=8), st.integers(0, 7))
def test_a_vector_does_not_depend_on_other_texts_and_is_never_zero(
    texts: list[str], row: int
) -> None:
    spec = MODELS["gemini-embedding-001"]
    row %= len(texts)
    together, alone = vectors(spec, texts, dim=768), vectors(spec, [texts[row]], dim=768)
    assert together[row].tobytes() == alone[0].tobytes()
    assert np.isfinite(together).all()
    assert (np.linalg.norm(together, axis=1) > 0.1).all()


def test_a_text_without_any_token_has_a_vector() -> None:
    spec = MODELS["gemini-embedding-2"]
    assert np.linalg.norm(embed(spec, 128, [""], [[]])) == pytest.approx(1, abs=1e-6)


def test_only_the_counted_part_of_a_huge_text_is_read() -> None:
    (ids,) = words().token_ids(["word " * 1_000_000], 2048)
    assert 2048 < len(ids) < 40_000


@pytest.mark.parametrize(
    ("text", "task", "meant"),
    [
        ("task: search result | query: a | b", TaskType.RETRIEVAL_QUERY, "a | b"),
        ("task: question answering | query: q", TaskType.QUESTION_ANSWERING, "q"),
        ("task: fact checking | query: q", TaskType.FACT_VERIFICATION, "q"),
        ("task: code retrieval | query: q", TaskType.CODE_RETRIEVAL_QUERY, "q"),
        ("task: classification | query: q", TaskType.CLASSIFICATION, "q"),
        ("task: clustering | query: q", TaskType.CLUSTERING, "q"),
        ("task: sentence similarity | query: q", TaskType.SEMANTIC_SIMILARITY, "q"),
        ("title: none | text: d", TaskType.RETRIEVAL_DOCUMENT, "d"),
        ("title: A | text: d", TaskType.RETRIEVAL_DOCUMENT, "A\nd"),
        ("task: cooking | query: q", "", "task: cooking | query: q"),
        ("a title: none | text: d", "", "a title: none | text: d"),
    ],
)
def test_documented_prefixes_are_read_as_tasks(text: str, task: str, meant: str) -> None:
    assert read_prefix(MODELS["gemini-embedding-2"], text) == (task, meant)
