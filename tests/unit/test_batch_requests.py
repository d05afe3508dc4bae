from __future__ import annotations

import json
from typing import Any

import pytest
from support.jobs import item

from bulkembed.schemas.embedding import EmbeddingConfig, LongText, Service, ServiceConfig
from bulkembed.schemas.models import TaskType
from bulkembed.transforms.clients.batch_requests import BatchLineWriter
from bulkembed.transforms.core.content import as_sent

DEVELOPER = ServiceConfig()
VERTEX = ServiceConfig(
    kind=Service.VERTEX, vertexai=True, vertex_project="p", vertex_location="us-central1"
)


def line_of(
    service: ServiceConfig, text: str, title: str | None = None, **facts: Any
) -> dict[str, Any]:
    embedding = EmbeddingConfig(
        **{"service": service.identity, "model": "gemini-embedding-001", **facts}
    )
    title, text = as_sent(embedding, title, text)
    content = item(text, 7, title)
    line = BatchLineWriter(service, embedding).line(content)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    found: dict[str, Any] = json.loads(line)
    assert found.pop("key") == content.hash.hex()
    assert list(found) == ["request"]
    request: dict[str, Any] = found["request"]
    return request


def content(text: str) -> dict[str, Any]:
    return {"parts": [{"text": text}]}


@pytest.mark.parametrize(
    ("facts", "settings"),
    [
        pytest.param({}, {"task_type": "RETRIEVAL_DOCUMENT"}, id="defaults"),
        pytest.param(
            {"dim": 768, "title": "T", "has_titles": True},
            {"output_dimensionality": 768, "task_type": "RETRIEVAL_DOCUMENT", "title": "T"},
            id="dim-and-title",
        ),
        pytest.param({"dim": 3072}, {"task_type": "RETRIEVAL_DOCUMENT"}, id="the-model's-own-dim"),
        pytest.param(
            {"task_type": TaskType.CLUSTERING}, {"task_type": "CLUSTERING"}, id="another-task"
        ),
    ],
)
def test_a_request_has_the_settings_of_the_embedding(
    facts: dict[str, Any], settings: dict[str, Any]
) -> None:
    facts = dict(facts)
    title = facts.pop("title", None)
    assert line_of(DEVELOPER, "a", title, **facts) == {"content": content("a"), **settings}
    assert line_of(VERTEX, "a", title, **facts) == {
        "content": content("a"),
        "embed_content_config": settings,
    }


@pytest.mark.parametrize("service", [DEVELOPER, VERTEX], ids=["developer", "vertex"])
def test_a_model_with_prefixes_gets_neither_task_type_nor_title(service: ServiceConfig) -> None:
    sent = line_of(service, "a", "T", model="gemini-embedding-2", has_titles=True)
    assert sent == {"content": content("title: T | text: a")}


@pytest.mark.parametrize("long_text", [one for one in LongText if one is not LongText.TRUNCATE])
def test_vertex_is_asked_not_to_cut_texts_unless_they_may_be_cut(long_text: LongText) -> None:
    sent = line_of(VERTEX, "a", long_text=long_text)
    assert sent["embed_content_config"]["auto_truncate"] is False
    assert "auto_truncate" not in line_of(VERTEX, "a")["embed_content_config"]
    assert "auto_truncate" not in line_of(DEVELOPER, "a", long_text=long_text)


def test_a_line_is_utf8_and_stays_one_line() -> None:
    embedding = EmbeddingConfig(service="developer", model="gemini-embedding-001")
    text = 'Zeile 1\nZeile 2\r\u2028\u0085 "Äpfel" 字 \U0001f600 \0\\'
    line = BatchLineWriter(DEVELOPER, embedding).line(item(text))
    assert "字".encode() in line
    assert len(line.splitlines()) == 1
    assert json.loads(line)["request"]["content"] == content(text)
