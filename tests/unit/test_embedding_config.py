from __future__ import annotations

import pickle
from typing import Any

import pytest

from bulkembed.schemas.embedding import (
    EmbeddingConfig,
    LongText,
    Service,
    ServiceConfig,
    Wire,
    digest_of,
)
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.media import GEMINI_EMBEDDING_2_VERTEX
from bulkembed.schemas.media_settings import (
    LongMedia,
    MediaCheck,
    MediaSettings,
    Transcode,
    for_service,
)
from bulkembed.schemas.models import TaskType


def config(**changes: Any) -> EmbeddingConfig:
    return EmbeddingConfig(**{"service": "developer", "model": "gemini-embedding-001", **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"service": "vertex"},
        {"model": "gemini-embedding-2"},
        {"task_type": TaskType.RETRIEVAL_QUERY},
        {"dim": 768},
        {"normalize": False},
        {"long_text": LongText.STOP},
        {"has_titles": True},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_each_setting_that_changes_vectors_changes_the_digest(changes: dict[str, Any]) -> None:
    assert config(**changes).digest != config().digest
    assert config(**changes).digest == config(**changes).digest


def test_an_explicit_default_does_not_change_the_digest() -> None:
    assert config(dim=3072).digest == config().digest
    assert config(model="models/gemini-embedding-001").digest == config().digest
    assert config(dim=3072).sent_dim is None
    assert config(dim=768).sent_dim == 768


def test_the_digest_does_not_depend_on_the_order_of_facts() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    assert len(config().digest) == 16


@pytest.mark.parametrize(
    ("changes", "digest"),
    [
        ({}, "a755ebf00ff43b91"),
        (
            {
                "service": "vertex",
                "model": "gemini-embedding-2",
                "task_type": TaskType.CLUSTERING,
                "dim": 768,
            },
            "23dc46f40c105511",
        ),
    ],
    ids=["default", "vertex"],
)
def test_datasets_of_texts_keep_the_digests_of_earlier_versions(
    changes: dict[str, Any], digest: str
) -> None:
    assert config(**changes).digest == digest
    assert "media" not in config(**changes).facts()


MEDIA = {"model": "gemini-embedding-2", "media": MediaSettings()}


@pytest.mark.parametrize(
    "changes",
    [
        {"transcode": Transcode.OFF},
        {"max_image_side": 512},
        {"long_media": LongMedia.HEAD},
        {"long_media": LongMedia.HEAD, "piece_seconds": 60.0},
        {"long_media": LongMedia.PIECES, "piece_overlap_pages": 1},
        {"document_ocr": True},
        {"audio_track": True},
        {"by_uri": True},
    ],
    ids=str,
)
def test_each_setting_of_media_that_changes_vectors_is_pinned(changes: dict[str, Any]) -> None:
    changed = config(model="gemini-embedding-2", media=MediaSettings(**changes))
    assert changed.digest != config(**MEDIA).digest
    assert changed.digest != config(model="gemini-embedding-2").digest
    assert EmbeddingConfig.from_facts(changed.facts()).digest == changed.digest


def test_what_only_decides_which_media_fails_is_not_pinned() -> None:
    checks = MediaSettings(check=MediaCheck.OFF, max_pixels=9, max_bytes=9, max_source_bytes=9)
    vertex = MediaSettings(limits=GEMINI_EMBEDDING_2_VERTEX)
    for media in (checks, vertex):
        assert config(model="gemini-embedding-2", media=media).digest == config(**MEDIA).digest


@pytest.mark.parametrize("identity", ["custom:localhost", "emulator"])
def test_media_pins_the_service_behind_an_address_that_does_not_name_it(identity: str) -> None:
    developer, vertex = (
        config(
            service=identity,
            model="gemini-embedding-2",
            media=for_service(MediaSettings(), vertexai=vertexai),
        )
        for vertexai in (False, True)
    )
    assert developer.digest != vertex.digest
    assert EmbeddingConfig.from_facts(vertex.facts()).facts() == vertex.facts()


def test_googles_own_vertex_ai_is_pinned_once() -> None:
    changes = {**MEDIA, "service": "vertex"}
    media = for_service(MediaSettings(), vertexai=True)
    assert config(**{**changes, "media": media}).digest == config(**changes).digest


def test_media_needs_a_model_that_takes_it() -> None:
    with pytest.raises(ConfigError, match=r"gemini-embedding-001 takes texts only\. Use --model"):
        config(media=MediaSettings())
    with pytest.raises(ConfigError, match="--long-text dead-letter cannot be combined with media"):
        config(**MEDIA, long_text=LongText.DEAD_LETTER)


def test_a_title_is_for_documents_only() -> None:
    with pytest.raises(ConfigError, match="--title-column works with"):
        config(has_titles=True, task_type=TaskType.CLUSTERING)


def test_a_vertex_only_model_is_an_error_on_the_developer_api_only() -> None:
    with pytest.raises(ConfigError, match="--vertexai"):
        config(model="text-embedding-005")
    assert config(model="text-embedding-005", service="vertex").out_dim == 768
    assert config(model="text-embedding-005", service="custom:host").out_dim == 768


def test_the_dim_of_an_unknown_model_is_unknown_before_an_answer() -> None:
    assert config(model="new-model").out_dim is None
    assert config(model="new-model", dim=77).out_dim == 77


def service(**changes: Any) -> ServiceConfig:
    return ServiceConfig(**changes)


def test_the_identity_of_a_service_has_its_host_but_not_its_port() -> None:
    one = service(kind=Service.CUSTOM, base_url="http://localhost:1234")
    other = service(kind=Service.CUSTOM, base_url="http://localhost:99/x")
    assert one.identity == other.identity == "custom:localhost"
    assert service().identity == "developer"
    assert service(kind=Service.EMULATOR, base_url="http://127.0.0.1:9").identity == "emulator"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"timeout_s": 0}, "--timeout 0"),
        ({"vertex_project": "p", "vertexai": True}, "--vertex-project and --vertex-location"),
        ({"vertex_location": "l", "vertexai": True}, "need each other"),
        ({"vertex_project": "p", "vertex_location": "l"}, "needs --vertexai"),
        ({"base_url": "localhost:80"}, "is not a URL"),
        ({"base_url": "ftp://host"}, "is not a URL"),
        ({"base_url": "https://"}, "is not a URL"),
        ({"wire": Wire.PROTO, "vertexai": True}, "Developer API only"),
    ],
)
def test_a_service_that_cannot_be_called_is_an_error(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        service(**changes)


@pytest.mark.parametrize(
    ("changes", "needs"),
    [
        ({}, True),
        ({"vertexai": True, "kind": Service.VERTEX}, True),
        ({"vertexai": True, "vertex_project": "p", "vertex_location": "l"}, False),
        ({"kind": Service.EMULATOR}, False),
        ({"kind": Service.CUSTOM, "base_url": "http://127.0.0.1:8080"}, False),
        ({"kind": Service.CUSTOM, "base_url": "http://[::1]:8080"}, False),
        ({"kind": Service.CUSTOM, "base_url": "https://gateway.example"}, True),
    ],
)
def test_a_key_is_needed_except_for_local_servers_and_vertex_projects(
    changes: dict[str, Any], needs: bool
) -> None:
    assert service(**changes).needs_key is needs


def test_configurations_survive_pickling() -> None:
    for one in (config(dim=768), service(base_url="http://a", kind=Service.CUSTOM)):
        assert pickle.loads(pickle.dumps(one)) == one
