"""`bulkembed search`: the query is embedded as fits the dataset, and the nearest rows are exact."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.cli import Floats, asked_alone, bulkembed, matrix, read, run, write_rows

from bulkembed.emulator.server import EmulatorServer
from bulkembed.pipeline.search.search import committed_parts, nearest
from bulkembed.transforms.dataset.dataset import Dataset

TEXTS = [
    "I took my dog to the vet", "I took my cat to the vet", "Shares fell on Monday",
    "Rain is expected in the north", "The bank raised its rates", "", "Kittens sleep all day",
]  # fmt: skip


def a_dataset(server: EmulatorServer, tmp_path: Path, *args: object) -> Path:
    write_rows(tmp_path / "in/a.parquet", TEXTS, lang=["en"] * len(TEXTS))
    output = tmp_path / "out"
    ended = run(
        server.url, tmp_path / "in", output, "--unit-rows", 3, "--keep-columns", "lang", *args
    )
    assert ended.code == 0, ended.err
    return output


@pytest.fixture(scope="module")
def service() -> Iterator[EmulatorServer]:
    with EmulatorServer() as running:
        yield running


@pytest.fixture(scope="module")
def made(service: EmulatorServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of documents, not to be changed."""
    return a_dataset(service, tmp_path_factory.mktemp("search"))


def found(output: Path, query: str, *args: object) -> dict[str, Any]:
    shown = bulkembed("search", output, query, *args, "--json")
    assert shown.code == 0, shown.err
    report: dict[str, Any] = json.loads(shown.out)
    return report


def cosines(output: Path, query: Floats) -> list[tuple[int, float]]:
    """Ids and cosines of all rows, highest first, by plain numpy."""
    table = read(output)
    vectors = matrix(table).astype(np.float64)
    scores = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    pairs = zip(table["id"].to_pylist(), scores.tolist(), strict=True)
    return sorted(pairs, key=lambda pair: -pair[1])


@pytest.mark.parametrize(
    ("args", "sent"),
    [
        pytest.param((), {"taskType": "RETRIEVAL_QUERY"}, id="documents"),
        pytest.param(
            ("--dim", 256, "--vector-type", "float16"),
            {"taskType": "RETRIEVAL_QUERY", "outputDimensionality": 256},
            id="float16",
        ),
        pytest.param(
            ("--dim", 256, "--no-normalize"),
            {"taskType": "RETRIEVAL_QUERY", "outputDimensionality": 256},
            id="free-lengths",
        ),
        pytest.param(
            ("--task-type", "SEMANTIC_SIMILARITY", "--dim", 256),
            {"taskType": "SEMANTIC_SIMILARITY", "outputDimensionality": 256},
            id="like-with-like",
        ),
        pytest.param(("--title-column", "lang"), {"taskType": "RETRIEVAL_QUERY"}, id="titles"),
    ],
)
def test_search_finds_the_same_rows_as_numpy(
    args: tuple[object, ...], sent: dict[str, Any], server: EmulatorServer, tmp_path: Path
) -> None:
    output = a_dataset(server, tmp_path, *args)
    report = found(output, "my cat is ill", "-k", 3)
    wanted = cosines(output, asked_alone(server.url, "my cat is ill", **sent))[:3]
    assert [row["id"] for row in report["rows"]] == [one for one, _ in wanted]
    assert [row["score"] for row in report["rows"]] == pytest.approx(
        [score for _, score in wanted], abs=1e-5
    )
    assert report["task_type"] == sent["taskType"]
    assert report["rows"][0] == {
        "score": report["rows"][0]["score"], "id": 1, "lang": "en", "truncated": False,
        "source_file": "a.parquet", "source_row": 1, "text_hash": report["rows"][0]["text_hash"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("args", "prefix"),
    [
        pytest.param((), "task: search result | query: ", id="documents"),
        pytest.param(
            ("--task-type", "CODE_RETRIEVAL_QUERY"), "task: code retrieval | query: ", id="code"
        ),
    ],
)
def test_gemini_embedding_2_gets_the_prefix_of_a_query(
    args: tuple[object, ...], prefix: str, server: EmulatorServer, tmp_path: Path
) -> None:
    output = a_dataset(server, tmp_path, "--model", "gemini-embedding-2")
    report = found(output, "my cat is ill", *args, "-k", 100)
    query = asked_alone(server.url, f"{prefix}my cat is ill", "gemini-embedding-2", taskType=None)
    wanted = cosines(output, query)
    assert [row["id"] for row in report["rows"]] == [one for one, _ in wanted]
    assert len(report["rows"]) == 6
    scores = [row["score"] for row in report["rows"]]
    assert scores == pytest.approx([score for _, score in wanted], abs=1e-5)


def test_the_table_has_one_row_per_line(made: Path) -> None:
    shown = bulkembed("search", made, "my cat is ill", "-k", 2)
    lines = shown.out.splitlines()
    assert (shown.code, shown.err) == (0, "")
    assert lines[0].split() == ["score", "id", "lang"]
    assert lines[1].split()[1:] == ["1", "en"]
    assert len(lines) == 3


def test_only_committed_rows_are_searched(made: Path, tmp_path: Path) -> None:
    output = Path(shutil.copytree(made, tmp_path / "out"))
    next((output / "_run/units").glob("*-000000000000-*.json")).unlink()
    ids = {row["id"] for row in found(output, "my cat is ill", "-k", 100)["rows"]}
    assert ids == {3, 4, 6}


def test_one_text_is_sent_and_nothing_is_written(made: Path, service: EmulatorServer) -> None:
    before = sorted(made.rglob("*")), service.stats()["texts"]
    found(made, "my cat is ill")
    assert (sorted(made.rglob("*")), service.stats()["texts"] - 1) == before


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        pytest.param((" ",), 2, "the query is blank", id="blank"),
        pytest.param(
            ("cat", "--emulator"), 2, "come from custom:127.0.0.1, but",
            id="another-service",
        ),
        pytest.param(("cat", "--base-url", "x"), 2, "--base-url 'x' is not a URL", id="no-url"),
        pytest.param(("cat", "-k", 0), 2, "-k: 0 is out of range. Give", id="none"),
    ],
)  # fmt: skip
def test_an_impossible_search_is_an_error(
    args: tuple[object, ...], code: int, said: str, made: Path
) -> None:
    shown = bulkembed("search", made, *args)
    assert shown.code == code
    assert said in shown.err
    assert "Traceback" not in shown.err


def test_an_error_of_the_service_is_shown(made: Path, service: EmulatorServer) -> None:
    shown = bulkembed("search", made, "cat", "--base-url", f"{service.url}/nowhere")
    assert shown.code == 1
    assert "the service answered 404" in shown.last


def test_rows_with_equal_scores_keep_their_order(tmp_path: Path) -> None:
    write_rows(tmp_path / "in/a.parquet", ["same"] * 40 + ["other"] * 5)
    ended = run(None, tmp_path / "in", tmp_path / "out", "--dim", 128, "--unit-rows", 10)
    assert ended.code == 0, ended.err
    dataset = Dataset.open(str(tmp_path / "out"))
    [query] = matrix(read(tmp_path / "out").slice(0, 1))
    parts = committed_parts(dataset)
    hits = nearest(dataset, parts, query, 23, unit_length=True)
    assert [(hit.part, hit.row) for hit in hits] == [(parts[n // 10], n % 10) for n in range(23)]


def test_a_dataset_without_vectors_has_no_rows(server: EmulatorServer, tmp_path: Path) -> None:
    write_rows(tmp_path / "in/a.parquet", ["", None])
    assert run(server.url, tmp_path / "in", tmp_path / "out").code == 0
    shown = bulkembed("search", tmp_path / "out", "cat")
    assert (shown.code, shown.out.strip()) == (0, "no row has a vector yet")


def test_kept_columns_of_any_type_can_be_shown(server: EmulatorServer, tmp_path: Path) -> None:
    write_rows(
        tmp_path / "in/a.parquet", ["one", "two"],
        day=pa.array([1, 2], pa.date32()), raw=[b"\x00\xff", None],
    )  # fmt: skip
    output = tmp_path / "out"
    assert run(server.url, tmp_path / "in", output, "--keep-columns", "*").code == 0
    row = found(output, "one")["rows"][0]
    assert (row["day"], row["raw"], row["text"]) == ("1970-01-02", "00ff", "one")
    assert "1970-01-02" in bulkembed("search", output, "one").out
