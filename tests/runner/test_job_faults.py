"""Whatever the service does, every row is accounted for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cli import asked_alone, dead_codes, matrix, read, run, summary, write_rows

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

pytestmark = pytest.mark.faults

TEXTS = [f"text {n}" for n in range(30)]


def served(**settings: Any) -> EmulatorServer:
    return EmulatorServer(EmulatorSettings(**settings))


@pytest.mark.parametrize(
    "fault", ["503", "500", "504", "reset", "short", "broken-json", "wrong-dim", "null", "hang"]
)
def test_a_fault_is_tried_again_and_every_row_comes_out_right(fault: str, tmp_path: Path) -> None:
    texts = [f"text {n}" for n in range(250)]  # Three requests.
    source = write_rows(tmp_path / "a.parquet", texts)
    with served(script=("ok", fault, "ok")) as server:
        args = ("--dim", 128, "--no-normalize", "--timeout", 1)
        ended = run(server.url, source, tmp_path / "out", *args)
        assert ended.code == 0, ended.err
        vectors = matrix(read(tmp_path / "out"))
        for row in (0, 99, 100, 199, 249):
            alone = asked_alone(server.url, texts[row], outputDimensionality=128)
            assert np.array_equal(vectors[row], alone)
    assert read(tmp_path / "out")["id"].to_pylist() == list(range(250))
    assert summary(tmp_path / "out")["calls_sent"] == 4
    assert summary(tmp_path / "out")["counts"]["retried"] == 1


def test_a_429_makes_everybody_wait_and_loses_nothing(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "a.parquet", [f"text {n}" for n in range(250)])
    with served(script=("ok", "429", "ok")) as server:
        ended = run(server.url, source, tmp_path / "out", "--dim", 128)
        assert ended.code == 0, ended.err
        assert (server.stats()["texts"], server.stats()["answers_429"]) == (250, 1)
    assert read(tmp_path / "out")["id"].to_pylist() == list(range(250))


def test_a_row_that_the_service_rejects_is_a_dead_letter_and_the_others_are_not(
    tmp_path: Path,
) -> None:
    texts = [*TEXTS[:11], "this is poison", *TEXTS[11:]]
    source = write_rows(tmp_path / "a.parquet", texts)
    with served(poison="poison") as server:
        ended = run(server.url, source, tmp_path / "out", "--dim", 128)
    assert ended.code == 0, ended.err
    assert "1 refused" in ended.out
    assert dead_codes(tmp_path / "out") == {11: "refused"}
    (letter,) = read(tmp_path / "out", "dead_letters").to_pylist()
    assert letter["text"] == "this is poison"
    assert (letter["id"], letter["http_status"]) == (11, 400)
    assert letter["attempts"] >= 1
    assert "Request contains an invalid argument." in letter["message"]
    assert read(tmp_path / "out")["id"].to_pylist() == [n for n in range(31) if n != 11]
    assert (tmp_path / "out/_SUCCESS").exists()


def test_the_columns_of_a_dead_letter_are_those_that_were_promised(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "a.parquet", [""])
    with served() as server:
        assert run(server.url, source, tmp_path / "out", "--dim", 128).code == 0
        assert server.stats()["calls"] == 0
    assert read(tmp_path / "out", "dead_letters").schema.names == [
        "id", "source_file", "source_row", "code", "message", "http_status", "attempts", "text",
    ]  # fmt: skip
    assert read(tmp_path / "out").num_rows == 0


def test_blank_rows_are_skipped_and_never_sent(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "a.parquet", ["x", "", None, " \n\t\u3000", "y"])
    with served() as server:
        ended = run(server.url, source, tmp_path / "out", "--dim", 128)
        assert server.stats()["texts"] == 2
    assert ended.code == 0
    assert "2 embedded, 3 skipped (blank), 0 failed, 0 remaining" in ended.out
    assert dead_codes(tmp_path / "out") == dict.fromkeys((1, 2, 3), "blank_text")


def test_a_blank_row_may_stop_the_run(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "a.parquet", ["x", "y", "", "z"])
    with served() as server:
        args = ("--blank-text", "stop", "--dim", 128, "--unit-rows", 2)
        ended = run(server.url, source, tmp_path / "out", *args)
    assert ended.code == 1
    assert "row 2 of a.parquet: the text is empty" in ended.last
    assert not (tmp_path / "out/_SUCCESS").exists()


LONG = "word " * 4000


@pytest.mark.parametrize(
    ("service", "truncated"),
    [
        pytest.param((), [False, None, None], id="developer"),
        pytest.param(("--vertexai",), [False, None, None], id="vertex-batch"),
        pytest.param(
            ("--vertexai", "--model", "text-embedding-005"),
            [False, True, False],
            id="vertex-predict",
        ),
    ],
)
def test_long_texts_are_cut_or_fail_or_stop_the_run(
    tmp_path: Path, service: tuple[str, ...], truncated: list[bool | None]
) -> None:
    source = write_rows(tmp_path / "a.parquet", ["short", LONG, "a" * 3000])
    with served() as server:
        args = ("--dim", 128, *service)
        ended = run(server.url, source, tmp_path / "cut", *args)
        assert ended.code == 0, ended.err
        assert read(tmp_path / "cut")["truncated"].to_pylist() == truncated
        dead = run(server.url, source, tmp_path / "dead", *args, "--long-text", "dead-letter")
        assert dead.code == 0, dead.err
        assert dead_codes(tmp_path / "dead") == {1: "too_long"}
        assert read(tmp_path / "dead")["id"].to_pylist() == [0, 2]
        (letter,) = read(tmp_path / "dead", "dead_letters").to_pylist()
        assert "tokens" in letter["message"]
        assert letter["text"] == LONG
        stop = run(server.url, source, tmp_path / "stop", *args, "--long-text", "stop")
        assert stop.code == 1
        assert "row 1 of a.parquet" in stop.last
        assert "--long-text" in stop.last
        assert not (tmp_path / "stop/_SUCCESS").exists()


def test_a_stop_in_the_middle_of_a_unit_commits_its_finished_rows(tmp_path: Path) -> None:
    texts = [f"text {n}" for n in range(450)]
    source = write_rows(tmp_path / "a.parquet", texts)
    with served(script=("ok", "ok"), rpd=200) as server:
        args = ("--dim", 128, "--concurrency", 1)
        ended = run(server.url, source, tmp_path / "out", *args)
        assert ended.code == 75, ended.err
        assert "the day's quota is spent" in ended.last
        assert read(tmp_path / "out")["id"].to_pylist() == list(range(200))
        counts = summary(tmp_path / "out")["dataset"]
        assert (counts["embedded"], counts["left"]) == (200, 250)
    with served() as server:
        assert run(server.url, source, tmp_path / "out", *args).code == 0
        assert server.stats()["texts"] == 250
    assert read(tmp_path / "out")["id"].to_pylist() == list(range(450))


@pytest.mark.parametrize(
    "settings",
    [{"pretty": True}, {"gzip": False}, {"unknown_parameters": ("prettyPrint",)},
     {"usage_metadata": False}, {"max_texts": 7}, {"max_body_bytes": 3000}],
    ids=lambda settings: next(iter(settings)),
)  # fmt: skip
def test_a_service_of_another_temper_gives_the_same_vectors(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    source = write_rows(tmp_path / "a.parquet", TEXTS)
    for name, chosen in (("one", {}), ("two", settings)):
        with served(**chosen) as server:
            ended = run(server.url, source, tmp_path / name, "--dim", 128)
            assert ended.code == 0, ended.err
    assert np.array_equal(matrix(read(tmp_path / "one")), matrix(read(tmp_path / "two")))


def test_protobuf_gives_the_same_vectors_and_nearly_the_same_counts(tmp_path: Path) -> None:
    source = write_rows(
        tmp_path / "a.parquet", [f"{text} {n}" for n, text in enumerate(TEXTS * 20)]
    )
    with served() as server:
        for wire in ("json", "proto"):
            args = ("--dim", 128, "--wire", wire)
            ended = run(server.url, source, tmp_path / wire, *args)
            assert ended.code == 0, ended.err
    assert np.array_equal(matrix(read(tmp_path / "json")), matrix(read(tmp_path / "proto")))
    exact, estimated = (summary(tmp_path / wire)["counts"]["tokens"] for wire in ("json", "proto"))
    assert estimated == pytest.approx(exact, rel=0.2)


@pytest.mark.parametrize(("model", "cap"), [("text-embedding-005", 5), ("gemini-embedding-001", 1)])
def test_an_unknown_limit_on_texts_is_learned_from_the_error(
    tmp_path: Path, model: str, cap: int
) -> None:
    source = write_rows(tmp_path / "a.parquet", TEXTS)
    with served(vertex_batch_texts=1, vertex_predict_texts=5) as server:
        args = ("--vertexai", "--model", model, "--dim", 128)
        ended = run(server.url, source, tmp_path / "out", *args)
        assert ended.code == 0, ended.err
        assert server.stats()["texts"] == 30
        assert server.stats()["calls"] == 1 + 30 / cap
    assert f"bulkembed sends at most {cap} from now on" in ended.err
    assert read(tmp_path / "out")["id"].to_pylist() == list(range(30))


def test_calls_are_in_the_air_together_over_the_borders_of_units(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "a.parquet", [f"text {n}" for n in range(900)])
    with served(latency_ms=100) as server:
        args = ("--unit-rows", 60, "--dim", 128, "--concurrency", 8)
        assert run(server.url, source, tmp_path / "out", *args).code == 0
        assert 4 <= server.stats()["most_in_flight"] <= 8
