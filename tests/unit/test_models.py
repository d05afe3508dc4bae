from __future__ import annotations

import datetime as dt

import pytest
from google.genai._transformers import t_is_vertex_embed_content_model

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.models import (
    DEFAULT_MODEL,
    MODELS,
    ModelSpec,
    TaskStyle,
    TaskType,
    VertexMethod,
    bare_name,
    find_model,
)

TODAY = dt.date(2026, 11, 20)


DOCUMENTED = [
    ("embedding-001", 768, 768, 2048, "2025-10-30", "gemini-embedding-001"),
    ("text-embedding-004", 768, 1, 2048, "2026-01-14", "gemini-embedding-001"),
    ("gemini-embedding-exp-03-07", 3072, 128, 8192, "2025-10-30", "gemini-embedding-001"),
    ("gemini-embedding-001", 3072, 128, 2048, None, None),
    ("gemini-embedding-2-preview", 3072, 128, 8192, "2026-08-10", "gemini-embedding-2"),
    ("gemini-embedding-2", 3072, 128, 8192, None, None),
    ("text-embedding-005", 768, 1, 2048, "2027-04-01", "gemini-embedding-001"),
    ("text-multilingual-embedding-002", 768, 1, 2048, "2027-04-01", "gemini-embedding-001"),
]
"""A row for each model: its default and minimum dimensions, maximum tokens, last day, successor."""


@pytest.mark.parametrize(("name", "dim", "least", "tokens", "shut", "successor"), DOCUMENTED)
def test_the_registry_agrees_with_the_documentation(
    name: str, dim: int, least: int, tokens: int, shut: str | None, successor: str | None
) -> None:
    spec = MODELS[name]
    assert (spec.default_dim, spec.min_dim, spec.max_tokens) == (dim, least, tokens)
    assert spec.shut_down == (None if shut is None else dt.date.fromisoformat(shut))
    assert spec.successor == successor
    assert spec.is_shut_down(TODAY) is (shut is not None and shut < "2026-11-20")


def test_each_model_is_in_the_table_above_and_the_default_one_is_served() -> None:
    assert list(MODELS) == [row[0] for row in DOCUMENTED]
    assert len(TaskType) == 8
    assert DEFAULT_MODEL == "gemini-embedding-001"
    assert not MODELS[DEFAULT_MODEL].is_shut_down(TODAY)
    assert all(spec.successor in MODELS for spec in MODELS.values() if spec.successor)


def test_a_model_whose_prefixes_lack_a_task_type_cannot_be_registered() -> None:
    prefixes = {task: "x: " for task in TaskType}
    assert ModelSpec("new-model", 4096, 64, 8192, prefixes).task_style is TaskStyle.PREFIX
    del prefixes[TaskType.CLUSTERING]
    with pytest.raises(ValueError, match="new-model: the prefixes lack CLUSTERING"):
        ModelSpec("new-model", 4096, 64, 8192, prefixes)


def test_a_model_is_shut_down_from_its_date_on() -> None:
    spec = MODELS["gemini-embedding-2-preview"]
    assert not spec.is_shut_down(dt.date(2026, 8, 9))
    assert spec.is_shut_down(dt.date(2026, 8, 10))


def test_only_gemini_embedding_001_at_3072_and_version_2_give_unit_length() -> None:
    assert MODELS["gemini-embedding-001"].gives_unit_length(3072)
    assert not MODELS["gemini-embedding-001"].gives_unit_length(768)
    assert all(MODELS["gemini-embedding-2"].gives_unit_length(dim) for dim in (128, 768, 3072))
    assert not MODELS["embedding-001"].gives_unit_length(768)


@pytest.mark.parametrize("dim", [None, 128, 768, 3072])
def test_a_dim_within_the_range_passes(dim: int | None) -> None:
    MODELS["gemini-embedding-001"].check_dim(dim)
    assert MODELS["gemini-embedding-001"].dim_warning(dim) is None


@pytest.mark.parametrize("dim", [1, 10, 64, 100, 127])
def test_a_dim_below_the_documented_range_passes_with_a_warning(dim: int) -> None:
    spec = MODELS["gemini-embedding-001"]
    spec.check_dim(dim)
    warning = spec.dim_warning(dim)
    assert warning is not None
    assert warning.startswith(f"dim {dim} is below")
    assert "128..3072" in warning


@pytest.mark.parametrize(
    ("model", "dim", "words"),
    [
        ("gemini-embedding-001", 0, "supports 128..3072 (advised: 768, 1536)"),
        ("gemini-embedding-001", 3073, "--dim 3073"),
        ("embedding-001", 767, "supports 768. Leave --dim out"),
        ("text-embedding-004", 0, "supports 1..768"),
    ],
)
def test_the_error_for_an_unsupported_dim_names_the_supported_ones(
    model: str, dim: int, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        MODELS[model].check_dim(dim)
    assert words in caught.value.message


def test_a_model_can_be_named_with_its_path() -> None:
    assert bare_name("models/gemini-embedding-001") == "gemini-embedding-001"
    assert bare_name("publishers/google/models/text-embedding-005") == "text-embedding-005"
    assert find_model("models/gemini-embedding-2") is MODELS["gemini-embedding-2"]


def test_an_unknown_model_accepts_any_dim_and_has_the_prefixes_of_its_family() -> None:
    spec = find_model("gemini-embedding-9")
    assert not spec.known
    assert (spec.default_dim, spec.task_style, spec.dims()) == (0, TaskStyle.FIELD, "any")
    spec.check_dim(5)
    assert find_model("gemini-embedding-2-flash").task_style is TaskStyle.PREFIX


@pytest.mark.parametrize("name", [*MODELS, "gemini-embedding-9", "e5-maas", "other-embedding"])
def test_the_vertex_method_is_the_one_that_the_sdk_calls(name: str) -> None:
    embeds = find_model(name).vertex_method is VertexMethod.EMBED_CONTENT
    assert embeds == t_is_vertex_embed_content_model(name)


def test_only_gemini_embedding_2_takes_media() -> None:
    taking = {name for name, spec in MODELS.items() if spec.takes_media}
    assert taking == {"gemini-embedding-2-preview", "gemini-embedding-2"}
    assert find_model("gemini-embedding-2-flash").takes_media
    assert not find_model("gemini-embedding-3").takes_media
