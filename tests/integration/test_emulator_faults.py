"""Faults that the settings cause, and how `/stats` counts them."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from support.killing import wait_for

from bulkembed.emulator.quotas import Clock
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings, Fault

PATH = "/v1beta/models/gemini-embedding-001:batchEmbedContents"


@contextmanager
def served(**settings: Any) -> Iterator[tuple[EmulatorServer, httpx2.Client]]:
    with (
        EmulatorServer(EmulatorSettings(**settings)) as server,
        httpx2.Client(base_url=server.url, headers={"x-goog-api-key": "k"}, timeout=5) as http,
    ):
        yield server, http


def post(http: httpx2.Client, *texts: str, **more: Any) -> httpx2.Response:
    requests = [
        {
            "model": "models/gemini-embedding-001",
            "content": {"parts": [{"text": text}]},
            "outputDimensionality": 128,
        }
        for text in texts or ("a", "b")
    ]
    return http.post(PATH, json={"requests": requests}, **more)


@pytest.mark.parametrize(
    ("fault", "status"),
    [("429", "RESOURCE_EXHAUSTED"), ("500", "INTERNAL"), ("503", "UNAVAILABLE"),
     ("504", "DEADLINE_EXCEEDED")],
)  # fmt: skip
def test_an_error_has_the_words_of_the_service(fault: str, status: str) -> None:
    with served(script=(fault, "ok")) as (server, http):
        response = post(http)
        assert response.status_code == int(fault)
        assert response.json()["error"]["status"] == status
        assert post(http).status_code == 200
        assert server.stats()["answers"] == {"200": 1, fault: 1}
        assert server.stats()["texts"] == 2


@pytest.mark.parametrize("status", [302, 402, 403, 409, 425, 499, 502, 529])
def test_a_script_can_answer_with_any_status_in_json(status: int) -> None:
    with served(script=(str(status),)) as (server, http):
        response = post(http)
        assert (response.status_code, response.json()["error"]["code"]) == (status, status)
        assert server.stats()["answers"] == {str(status): 1}
        assert server.stats()["texts"] == 0


@pytest.mark.parametrize("status", [200, 403, 502])
def test_a_script_can_answer_with_a_page(status: int) -> None:
    with served(script=(f"page-{status}",)) as (server, http):
        response = post(http)
        assert response.status_code == status
        assert response.headers["content-type"].startswith("text/html")
        assert response.text.startswith("<!DOCTYPE html>")
        assert len(response.content) > 90_000
        assert server.stats()["answers"] == {f"page-{status}": 1}
        assert server.stats()["texts"] == 0


def test_a_nan_replaces_a_number() -> None:
    with served(script=("nan",)) as (server, http):
        content = post(http).text
        assert content.count("NaN") == 1
        values = json.loads(content)["embeddings"][-1]["values"]
        assert values[-1] != values[-1]
        assert len(values) == 128
        assert server.stats()["texts"] == 2


def test_an_unexplained_429_names_no_limit() -> None:
    with served(script=("429",)) as (_, http):
        assert "quotaValue" not in post(http).text


def test_a_reset_breaks_the_connection(capfd: pytest.CaptureFixture[str]) -> None:
    with served(script=("reset", "ok")) as (server, http):
        with pytest.raises(httpx2.ReadError):
            post(http)
        assert post(http).status_code == 200
        assert server.stats()["answers"] == {"200": 1, "reset": 1}
    assert capfd.readouterr() == ("", "")


def test_a_hanging_call_never_answers_and_does_not_keep_the_server_from_stopping(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with served(script=("hang", "hang")) as (_, http):
        with pytest.raises(httpx2.ReadTimeout):
            post(http, timeout=0.1)
        caught: list[Exception] = []

        def wait_for_ever() -> None:
            with pytest.raises(httpx2.TransportError) as error:
                post(http, timeout=30)
            caught.append(error.value)

        waiting = threading.Thread(target=wait_for_ever)
        waiting.start()
        time.sleep(0.1)
        left = time.monotonic()
    waiting.join(timeout=5)
    assert caught
    assert time.monotonic() - left < 2
    assert capfd.readouterr() == ("", "")


def test_a_hanging_call_is_in_flight_until_its_client_gives_up() -> None:
    with served(script=("hang",)) as (server, http):
        found: list[int] = []
        looks = threading.Timer(0.3, lambda: found.append(server.stats()["in_flight"]))
        looks.start()
        with pytest.raises(httpx2.ReadTimeout):
            post(http, timeout=1)
        looks.join()
        assert found == [1]
        wait_for(lambda: server.stats()["in_flight"] == 0, 10)
        assert server.stats()["answers"] == {"hang": 1}


def test_each_corrupted_answer_has_its_fault() -> None:
    script = ("short", "wrong-dim", "null", "broken-json", "ok")
    with served(script=script) as (server, http):
        short, wrong, null, broken, fine = (post(http) for _ in script)
        assert len(short.json()["embeddings"]) == 1
        assert [len(one["values"]) for one in wrong.json()["embeddings"]] == [127, 127]
        assert null.json()["embeddings"][1]["values"] == [None] * 128
        with pytest.raises(json.JSONDecodeError):
            broken.json()
        assert len(fine.json()["embeddings"]) == 2
        stats = server.stats()
        assert (stats["texts"], stats["distinct_texts"], stats["texts_paid_twice"]) == (10, 2, 8)


def test_a_share_of_calls_fails() -> None:
    with served(faults=((Fault.UNAVAILABLE, 0.5),), seed=3) as (_, http):
        codes = [post(http, "a").status_code for _ in range(60)]
    assert 15 < codes.count(503) < 45
    assert set(codes) == {200, 503}


def test_a_poison_text_fails_its_whole_call_without_being_named() -> None:
    with served(poison="arsenic") as (_, http):
        response = post(http, "tea", "tea with arsenic")
        assert response.status_code == 400
        assert "arsenic" not in response.text
        assert "details" not in response.json()["error"]
        assert post(http, "tea").status_code == 200


def test_an_outage_begins_and_ends_by_the_clock() -> None:
    with served(outages=((30, 60),)) as (_, http):
        codes = []
        for offset_s in (0, 30, 59, 61):
            assert http.post("/clock", json={"offset_s": offset_s}).status_code == 200
            codes.append(post(http, "a").status_code)
    assert codes == [200, 503, 503, 200]


def test_the_clock_can_be_set_so_that_a_day_passes() -> None:
    with served(rpd=3, rpm=3) as (server, http):
        assert post(http, "a", "b").status_code == 200
        rejected = post(http, "c", "d")
        assert rejected.status_code == 429
        assert "PerDay" in rejected.text
        assert http.post("/clock", json={"offset_s": 86_400}).json()["offset_s"] == 86_400
        assert post(http, "c", "d").status_code == 200
        assert server.stats()["answers_429"] == 1
        assert http.post("/clock", json={"offset_s": "soon"}).status_code == 400


def test_failed_calls_use_no_quota_by_default() -> None:
    with served(script=("503", "reset", "429"), rpm=2) as (_, http):
        assert post(http).status_code == 503
        with pytest.raises(httpx2.ReadError):
            post(http)
        assert post(http).status_code == 429
        assert post(http).status_code == 200
        assert post(http).status_code == 429


def test_failed_calls_use_quota_if_the_settings_say_so() -> None:
    with served(script=("503",), rpm=2, charge_failed=True) as (_, http):
        assert post(http).status_code == 503
        assert post(http).status_code == 429


def test_each_model_and_project_has_its_own_quota() -> None:
    with served(rpm=1) as (_, http):
        for model in ("gemini-embedding-001", "gemini-embedding-2"):
            for project in ("p", "q"):
                path = f"/v1/projects/{project}/locations/l/publishers/google/models/{model}"
                body = {"content": {"parts": [{"text": "a"}]}}
                codes = [http.post(f"{path}:embedContent", json=body).status_code for _ in "ab"]
                assert codes == [200, 429]


def test_calls_wait_for_their_latency_concurrently() -> None:
    with served(latency_ms=150) as (server, http):
        started = time.monotonic()
        threads = [threading.Thread(target=post, args=(http, str(one))) for one in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 0.15 <= time.monotonic() - started < 1.0
        assert server.stats()["most_in_flight"] == 8


def test_stats_report_counts_and_times_and_can_be_reset() -> None:
    at = [1_790_000_000.5]
    server = EmulatorServer(EmulatorSettings(rpm=5), Clock(lambda: at[0]))
    with server, httpx2.Client(base_url=server.url, headers={"x-goog-api-key": "k"}) as http:
        post(http, "a", "b")
        at[0] += 2
        post(http, "b", "c")
        assert post(http, "d", "e").status_code == 429
        stats = http.get("/stats").json()
        assert stats == server.stats()
        assert stats["tokens"] == 4
        assert stats.pop("tokens_by_modality") == {"TEXT": stats.pop("tokens")}
        assert stats.pop("batch")["jobs_created"] == 0
        assert stats == {
            "calls": 3,
            "texts": 4,
            "distinct_texts": 3,
            "texts_paid_twice": 1,
            "answers": {"200": 2, "429": 1},
            "answers_429": 1,
            "in_flight": 0,
            "most_in_flight": 1,
            "first_counted_s": 1_790_000_000.5,
            "last_counted_s": 1_790_000_002.5,
            "timeline": [[0, 2], [2, 2]],
        }
        assert http.post("/reset").json()["texts"] == 0
        assert post(http, *"abcde").status_code == 200


def test_a_client_that_disconnects_during_its_call_is_not_a_server_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with EmulatorServer() as server:
        where = urllib.parse.urlsplit(server.url)
        with socket.create_connection((where.hostname, where.port)) as client:
            client.sendall(
                b"POST /v1beta/models/gemini-embedding-001:batchEmbedContents HTTP/1.1\r\n"
                b"host: x\r\nx-goog-api-key: k\r\ncontent-length: 1000\r\n\r\n{"
            )
            while not server.stats()["in_flight"]:
                time.sleep(0.01)
        while server.stats()["in_flight"]:
            time.sleep(0.01)
        assert server.stats()["calls"] == 1
    assert not caplog.records
