"""The same media at several places is paid once, within a run and over runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli import bulkembed, dead_codes, read, summary
from support.images import picture
from support.media_jobs import MODEL, PHOTO, embed, write, write_photos

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

DISTINCT = 10
UNITS = ("--unit-rows", 4)


def write_files(folder: Path, rows: int, start: int = 0) -> list[str]:
    """Write files of which each tenth has the same content; return their paths."""
    (folder / "img").mkdir(parents=True, exist_ok=True)
    names = [f"img/{number}.jpg" for number in range(start, start + rows)]
    for number, name in enumerate(names):
        (folder / name).write_bytes(picture(number % DISTINCT))
    return names


@pytest.mark.parametrize("latency_ms", [0, 150], ids=["one after another", "at once"])
def test_the_same_image_at_other_paths_is_sent_once_in_a_run(
    tmp_path: Path, latency_ms: int
) -> None:
    names = write_files(tmp_path / "in", 47)
    photos = {"photo": [*names, None, None], "inline": [*[None] * 47, picture(3), picture(77)]}
    source = write(tmp_path / "in/a.parquet", id=range(49), **photos)
    parts = (*PHOTO, "--content", "image:inline")
    with EmulatorServer(EmulatorSettings(latency_ms=latency_ms)) as server:
        planned = bulkembed(
            "estimate", "--input", source, "--base-url", server.url, "--model",
            "gemini-embedding-2", *parts, *UNITS,
        )  # fmt: skip
        ended = embed(server.url, source, tmp_path / "out", *parts, *UNITS, "--concurrency", 16)
        assert ended.code == 0, ended.err
        assert server.stats()["texts"] == DISTINCT + 1
    assert "11 to send, 38 duplicate" in planned.out
    table = read(tmp_path / "out")
    assert table.num_rows == 49
    assert len(set(table["text_hash"].to_pylist())) == DISTINCT + 1
    assert summary(tmp_path / "out")["counts"]["repeated"] == 49 - DISTINCT - 1
    assert summary(tmp_path / "out")["counts"]["reused"] == 0


def test_a_content_that_the_service_rejects_is_tried_by_each_unit(tmp_path: Path) -> None:
    names = write_files(tmp_path / "in", 40)
    titles = ["poison" if n % DISTINCT == 3 else "t" for n in range(40)]
    source = write_photos(tmp_path / "in/a.parquet", names, title=titles)
    settings = EmulatorSettings(latency_ms=50, poison="poison")
    with EmulatorServer(settings) as server:
        ended = embed(
            server.url, source, tmp_path / "out", "--content", "{title}", *PHOTO, *UNITS,
            "--max-dead-letters", 4,
        )  # fmt: skip
        assert ended.code == 0, ended.err
        assert server.stats()["texts_paid_twice"] == 0
    assert dead_codes(tmp_path / "out").keys() == {3, 13, 23, 33}


def test_files_are_found_in_a_dataset_that_is_reused(
    server: EmulatorServer, tmp_path: Path
) -> None:
    names = write_files(tmp_path / "in", 20)
    source = write_photos(tmp_path / "in/a.parquet", names)
    assert embed(server.url, source, tmp_path / "old", *PHOTO).code == 0
    assert server.stats()["texts"] == DISTINCT
    (tmp_path / "in/img/new.jpg").write_bytes(picture(50))
    moved = write_photos(
        tmp_path / "in/b.parquet", [*write_files(tmp_path / "in", 30, 100), "img/new.jpg"]
    )
    args = (*PHOTO, *UNITS, "--reuse", tmp_path / "old")
    planned = bulkembed("estimate", "--input", moved, "--base-url", server.url, *MODEL, *args)
    assert "1 to send, 30 reused from earlier runs" in planned.out, planned.out
    ended = embed(server.url, moved, tmp_path / "new", *args)
    assert ended.code == 0, ended.err
    assert server.stats()["texts"] == DISTINCT + 1
    counts = summary(tmp_path / "new")["counts"]
    assert (counts["reused"], counts["repeated"]) == (30, 0)


@pytest.mark.faults
def test_two_workers_pay_a_file_at_two_paths_at_most_twice(
    server: EmulatorServer, tmp_path: Path
) -> None:
    names = write_files(tmp_path / "in", 60)
    source = write_photos(tmp_path / "in/a.parquet", names)
    ended = embed(server.url, source, tmp_path / "out", *PHOTO, *UNITS, "--workers", 2)
    assert ended.code == 0, ended.err
    assert server.stats()["texts"] <= 2 * DISTINCT
