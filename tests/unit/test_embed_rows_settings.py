from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.internal.pickler import dumps, loads
from apache_beam.transforms.display import DisplayData

from bulkembed.schemas.embedding import Service
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.fetch_settings import FetchSettings
from bulkembed.schemas.media_settings import MediaSettings
from bulkembed.schemas.models import TaskType
from bulkembed.schemas.quota import QuotaLimits
from bulkembed.transforms.clients.transport import service_from
from bulkembed.transforms.embed_rows import EmbedElementsFn, EmbedRows, Gemini, fetch_settings

KEY = "AIza-this-is-the-key"
HERE = service_from(base_url="http://127.0.0.1:9")


def a_stage(**settings: Any) -> EmbedElementsFn:
    stage = EmbedRows(Gemini(**settings))
    return EmbedElementsFn(stage.config, stage.form, dead_letters=False)


def test_the_stage_can_be_pickled_and_carries_no_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    (tmp_path / "key").write_text(KEY)
    stage = a_stage(dim=128, service=service_from(api_key_file=str(tmp_path / "key")))
    stage.setup()
    stage.teardown()
    for data in (dumps(stage), pickle.dumps(stage)):
        assert KEY.encode() not in (data if isinstance(data, bytes) else data.encode())
    assert loads(dumps(stage))._config == stage._config


def test_stages_of_equal_settings_share_what_they_set_up_and_others_do_not() -> None:
    one, two, other = (a_stage(service=HERE, dim=dim) for dim in (128, 128, 256))
    for stage in (one, two, other):
        stage.setup()
    assert one._embedder is two._embedder
    assert one._embedder is not other._embedder
    for stage in (one, two, other, one):
        stage.teardown()
    one.setup()
    assert one._embedder is not two._embedder
    one.teardown()


def test_setup_without_a_key_is_an_error_that_says_so() -> None:
    with pytest.raises(ConfigError, match="no API key"):
        a_stage().setup()


def test_the_display_data_says_what_is_asked_and_holds_no_path() -> None:
    service = service_from(api_key_file="/secret/key")
    data = DisplayData.create_from(EmbedRows(Gemini(dim=768, service=service))).items
    shown = {item.key: item.value for item in data}
    assert shown["model"] == "gemini-embedding-001"
    assert shown["dim"] == 768
    assert shown["limits"] == "3,000 texts per minute, 1,000,000 tokens per minute"
    assert "/secret/key" not in str(shown)


def test_settings_are_those_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Gemini(task_type="CLUSTERING").config()
    assert config.service.kind is Service.DEVELOPER
    assert config.calls.limits == QuotaLimits(rpm=3_000, tpm=1_000_000)
    assert config.embedding.task_type is TaskType.CLUSTERING
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:9")
    assert Gemini().config().service.base_url == "http://127.0.0.1:9"
    assert Gemini(limits=QuotaLimits(rpm=5)).config().calls.limits == QuotaLimits(rpm=5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dim": 4000}, "supports 128..3072"),
        ({"task_type": "SEARCH"}, "unknown task_type 'SEARCH'. Allowed are SEMANTIC_SIMILARITY"),
        ({"long_text": "stop"}, "Use 'dead-letter'"),
        ({"long_text": "passages"}, "makes several rows of one"),
        ({"long_text": "mean", "passage_tokens": 9}, "--passage-tokens 9: use 16 or more"),
        ({"long_text": "cut"}, "unknown long_text 'cut'. Allowed are truncate"),
        ({"model": "text-embedding-005"}, "Add --vertexai"),
        ({"concurrency": 0}, "use a number from 1"),
    ],
)
def test_invalid_settings_are_rejected_when_the_stage_is_made(
    settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        EmbedRows(Gemini(**settings))


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"text_column": "a", "text_template": "{b}"}, "either --text-column or --text-template"),
        ({"text_template": "no field"}, "names no column"),
    ],
)
def test_contradictory_columns_are_rejected(columns: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        EmbedRows(Gemini(service=HERE), **columns)


def test_gathering_is_rejected_on_a_runner_that_loses_rows() -> None:
    pipeline = beam.Pipeline("PrismRunner")
    rows = pipeline | beam.Create([{"text": "a"}])
    with pytest.raises(ConfigError, match="gather_s cannot be used with PrismRunner"):
        rows | EmbedRows(Gemini(dim=128), gather_s=2)


def test_how_large_a_file_may_be_is_a_setting_of_media() -> None:
    media = MediaSettings(max_source_bytes=500_000_000)
    assert fetch_settings(media, None) == FetchSettings(max_bytes=500_000_000)
    given = fetch_settings(media, FetchSettings(per_host=2))
    assert given == FetchSettings(per_host=2, max_bytes=500_000_000)
    with pytest.raises(ConfigError, match="fetch needs content with media"):
        EmbedRows(fetch=FetchSettings())
