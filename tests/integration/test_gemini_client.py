"""The client with a local server: every model, both forms of calls, every failure."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from support.cli import asked_alone
from support.gemini import TEXTS, embed, failing, items, with_client
from support.jobs import item

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.schemas.embedding import LongText
from bulkembed.schemas.errors import (
    BadAnswer,
    CallError,
    CallRejected,
    JobRejected,
    QuotaExceeded,
    Unavailable,
)
from bulkembed.schemas.models import MODELS, TaskStyle, TaskType
from bulkembed.transforms.clients.decoding import Answer
from bulkembed.transforms.clients.gemini import GeminiClient
from bulkembed.transforms.core.content import TextContent

DEVELOPER = [name for name, spec in MODELS.items() if not spec.vertex_only]
WAYS = [(name, False) for name in DEVELOPER] + [(name, True) for name in MODELS]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with EmulatorServer() as server:
        yield server.url


@pytest.mark.parametrize(("model", "vertexai"), WAYS)
def test_every_model_gives_each_text_of_a_batch_the_vector_it_has_alone(
    url: str, model: str, vertexai: bool
) -> None:
    together = embed(url, TEXTS, model=model, vertexai=vertexai)
    assert together.vectors.shape == (len(TEXTS), MODELS[model].default_dim)
    assert together.tokens is not None
    alone = [embed(url, [text], model=model, vertexai=vertexai) for text in TEXTS]
    assert np.array_equal(together.vectors, np.concatenate([one.vectors for one in alone]))
    assert together.tokens == sum(one.tokens or 0 for one in alone)
    assert len(np.unique(together.vectors, axis=0)) == len(TEXTS)


@pytest.mark.parametrize("model", ["embedding-001", "gemini-embedding-001", "gemini-embedding-2"])
@pytest.mark.parametrize("task_type", TaskType)
def test_each_task_type_is_sent_as_the_model_expects_it(
    url: str, model: str, task_type: TaskType
) -> None:
    found = embed(url, TEXTS[:2], model=model, task_type=task_type).vectors
    prefixed = MODELS[model].task_style is TaskStyle.PREFIX
    sent = items(TEXTS[:1], model=model, task_type=task_type)[0].text
    alone = asked_alone(url, sent, model, taskType=None if prefixed else str(task_type))
    assert np.array_equal(found[0], alone)


def test_each_text_of_a_call_has_its_own_title(url: str) -> None:
    found = embed(url, ["x", "x", "x"], ["Cats", "Banks", None]).vectors
    for row, title in enumerate(("Cats", "Banks", None)):
        assert np.array_equal(found[row], asked_alone(url, "x", title=title))


@pytest.mark.parametrize("vertexai", [False, True])
@pytest.mark.parametrize("model", ["gemini-embedding-001", "gemini-embedding-2"])
def test_a_shorter_dim_is_requested(url: str, model: str, vertexai: bool) -> None:
    found = embed(url, TEXTS, model=model, dim=768, vertexai=vertexai).vectors
    assert found.shape == (4, 768)


@pytest.mark.parametrize("model", ["text-embedding-005", "gemini-embedding-001"])
def test_vertex_cuts_long_texts_only_if_the_settings_allow_it(url: str, model: str) -> None:
    long = ["word " * 3000]
    cut = embed(url, long, model=model, vertexai=True)
    assert cut.truncated == (True,)
    with pytest.raises(CallRejected) as caught:
        embed(url, long, model=model, vertexai=True, long_text=LongText.DEAD_LETTER)
    assert caught.value.code == "too_long"


@pytest.mark.parametrize("vertexai", [False, True])
def test_tokens_are_counted_by_the_service(url: str, vertexai: bool) -> None:
    count = with_client(url, lambda client: client.count_tokens(item(TEXTS[0])), vertexai=vertexai)
    assert count == embed(url, TEXTS[:1]).tokens


@contextmanager
def served(**settings: Any) -> Iterator[EmulatorServer]:
    with EmulatorServer(EmulatorSettings(**settings)) as server:
        yield server


@pytest.mark.parametrize("vertexai", [False, True])
def test_a_wrong_key_ends_the_job_and_is_not_shown(vertexai: bool) -> None:
    with served(api_key="right") as server:
        error = failing(JobRejected, server.url, key="AIza-wrong", vertexai=vertexai)
        assert error.code == "key"
        assert "AIza-wrong" not in str(error) + repr(vars(error))
        assert embed(server.url, TEXTS, key="right").vectors.shape == (4, 3072)


def test_the_error_for_a_retired_model_names_its_successor() -> None:
    with served(retired=("embedding-001", "gemini-embedding-2-preview")) as server:
        error = failing(JobRejected, server.url, model="embedding-001")
        assert error.http_status == 404
        assert "--model gemini-embedding-001" in error.message
        error = failing(JobRejected, server.url, model="gemini-embedding-2-preview")
        assert "--model gemini-embedding-2 " in error.message


def test_each_status_becomes_the_error_of_its_kind() -> None:
    for fault in ("500", "503", "504"):
        with served(script=(fault,)) as server:
            assert failing(Unavailable, server.url).http_status == int(fault)
    with served(rpm=2) as server:
        error = failing(QuotaExceeded, server.url)
        assert isinstance(error, QuotaExceeded)
        assert error.quota_value == 2
        assert error.retry_delay_s is not None
    with served(no_access=True) as server:
        assert failing(JobRejected, server.url).code == "no_quota"
    with served(max_texts=3) as server:
        error = failing(CallRejected, server.url)
        assert isinstance(error, CallRejected)
        assert error.max_texts == 3
    with served(poison="Shares") as server:
        assert failing(CallRejected, server.url).http_status == 400
    with served(max_body_bytes=300) as server:
        assert failing(CallRejected, server.url).code == "payload"


@pytest.mark.parametrize(
    ("fault", "code"),
    [("short", "count"), ("broken-json", "json"), ("wrong-dim", "dim"), ("null", "values")],
)
def test_a_corrupted_answer_is_a_bad_answer(fault: str, code: str) -> None:
    for vertexai in (False, True):
        with served(script=(fault,)) as server:
            assert failing(BadAnswer, server.url, vertexai=vertexai).code == code


def test_a_hanging_call_times_out_and_a_reset_is_no_answer() -> None:
    with served(script=("hang",)) as server:
        assert failing(Unavailable, server.url, timeout_s=0.3).code == "timeout"
    with served(script=("reset",)) as server:
        assert failing(Unavailable, server.url).code == "connection"
    assert failing(Unavailable, server.url).code == "connection"


def test_the_environment_does_not_redirect_calls_to_vertex(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
    monkeypatch.setenv("GOOGLE_API_KEY", "other")
    assert embed(url, TEXTS).vectors.shape == (4, 3072)


def test_simultaneous_calls_each_get_their_own_answer(url: str) -> None:
    texts = [f"text {n}" for n in range(24)]

    async def all_at_once(client: GeminiClient) -> list[Answer]:
        return await asyncio.gather(*(client.embed([item(text)]) for text in texts))

    found = with_client(url, all_at_once, dim=128)
    for text, answer in zip(texts, found, strict=True):
        assert np.array_equal(answer.vectors[0], asked_alone(url, text, outputDimensionality=128))


@pytest.mark.parametrize("fault", ["503", "reset", "short"])
def test_a_failed_request_does_not_keep_its_texts_in_memory(fault: str) -> None:
    """Errors that refer to frames that refer to them would wait for a garbage collection."""

    class Texts(list[TextContent]):
        """A list that shows when it is freed."""

    async def fail(client: GeminiClient) -> weakref.ref[Texts]:
        texts = Texts(items(TEXTS))
        with pytest.raises(CallError):
            await client.embed(texts)
        return weakref.ref(texts)

    gc.collect()
    gc.disable()
    try:
        with served(script=(fault,)) as server:
            assert with_client(server.url, fail)() is None
    finally:
        gc.enable()
