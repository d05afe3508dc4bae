"""`--mode batch` with media writes the dataset of online requests, and pays for each file once."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support import media_jobs
from support.batch_api import FakeTime
from support.cli import Ended, bulkembed, dead_codes, matrix, read, summary
from support.google_login import credentials
from support.images import picture
from support.media_jobs import PHOTO, write, write_photos
from support.media_samples import pdf, wav
from support.recordings import movie, printed
from support.web_pages import Exchange, serving

from bulkembed.emulator.batch_settings import BatchSettings
from bulkembed.emulator.quotas import Clock
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.transforms.batch import job_files

FAST = ("--mode", "batch", "--batch-poll", "0.1s")
VERTEX = ("--vertexai", "--vertex-project", "p", "--vertex-location", "global")


def emulator(time: FakeTime | None = None, **batch: Any) -> EmulatorServer:
    """A service; with `time`, jobs take an hour of it."""
    if time is not None:
        batch["seconds"] = 3600.0
    settings = EmulatorSettings(batch=BatchSettings(**batch))
    return EmulatorServer(settings, Clock(time) if time is not None else None)


def embed(server: EmulatorServer, source: Path, output: Path, *args: object) -> Ended:
    return media_jobs.embed(server.url, source, output, *args)


@pytest.fixture
def vertex(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[object, ...]]:
    """The options of Vertex AI, with a login, and a folder as the bucket."""
    (tmp_path / "buckets/bucket").mkdir(parents=True)
    with credentials(tmp_path) as environ:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        yield VERTEX


def check_paid_once(server: EmulatorServer) -> None:
    stats = server.stats()
    assert stats["texts_paid_twice"] == 0
    assert (stats["batch"]["jobs_left"], stats["batch"]["files_left"]) == (0, 0)


def check_same(one: Path, other: Path) -> None:
    order = [("source_file", "ascending"), ("source_row", "ascending")]
    first, second = (read(path).sort_by(order) for path in (one, other))
    assert first["text_hash"].equals(second["text_hash"])
    assert first["media"].equals(second["media"])
    assert np.array_equal(matrix(first), matrix(second))


def mixed(folder: Path) -> Path:
    """Two files of photos with texts and paths: repeated, broken, missing, and null ones."""
    (folder / "img").mkdir(parents=True)
    for number in range(8):
        (folder / f"img/{number}.png").write_bytes(picture(100 + number % 6))
    (folder / "img/bad.png").write_bytes(b"<html>404</html>")
    photos = [picture(n % 9) if n % 5 else None for n in range(40)]
    photos[7] = b"no image"
    paths = [[f"img/{n % 9}.png"] if n % 4 == 0 else None for n in range(40)]
    paths[11] = ["img/bad.png", "img/1.png"]
    titles = [f"title {n % 3}" if n % 2 else None for n in range(40)]
    texts, lists = pa.array(titles, pa.string()), pa.array(paths, pa.list_(pa.string()))
    write_photos(folder / "a.parquet", photos, title=texts, files=lists)
    write_photos(folder / "b.parquet", photos[:20], title=texts[:20], files=lists[20:])
    return folder


MIXED = ("--content", "{title}", *PHOTO, "--content", "image:files", "--unit-rows", 9)
BUDGET = ("--max-dead-letters", 100)


@pytest.mark.parametrize("service", ["developer", pytest.param("vertex", marks=pytest.mark.faults)])
def test_a_batch_run_with_media_writes_the_dataset_of_an_online_run(
    tmp_path: Path, service: str, vertex: tuple[object, ...]
) -> None:
    source = mixed(tmp_path / "in")
    where = vertex if service == "vertex" else ()
    bucket = ("--batch-bucket", tmp_path / "buckets/bucket") if where else ()
    with emulator(buckets=(("*", str(tmp_path / "buckets")),)) as server:
        args = (*MIXED, *BUDGET, *where)
        ended = embed(
            server, source, tmp_path / "batch", *args, *FAST, *bucket, "--batch-job-rows", 7
        )
        assert ended.code == 0, ended.err
        assert server.stats()["calls"] == 0
        check_paid_once(server)
        assert embed(server, source, tmp_path / "online", *args).code == 0
    check_same(tmp_path / "batch", tmp_path / "online")
    codes = dead_codes(tmp_path / "batch")
    assert codes == dead_codes(tmp_path / "online")
    assert {"unsupported_type", "not_found", "blank_text"} == set(codes.values())
    one, other = (summary(tmp_path / name) for name in ("batch", "online"))
    assert one["dataset"] == other["dataset"]
    assert one["batch"]["jobs"] > 2


def test_media_in_batch_jobs_costs_half_of_its_own_price(tmp_path: Path) -> None:
    source = write_photos(tmp_path / "in/a.parquet", [picture(n) for n in range(12)])
    price = ("--price-usd-per-mtok", 0.2)
    with emulator() as server:
        ended = embed(server, source, tmp_path / "out", *PHOTO, *price, *FAST)
        assert ended.code == 0, ended.err
        capped = ("--max-cost-usd", 0.0006)
        ended = embed(server, source, tmp_path / "cap", *PHOTO, *price, *FAST, *capped)
        assert ended.code == 4, ended.err
        assert server.stats()["texts"] == 12
    found = summary(tmp_path / "out")
    assert found["batch"]["tokens"] == 258 * 12
    assert found["cost"]["usd"] == pytest.approx(258 * 12 * 0.45 / 2 / 1e6, abs=1e-6)
    (job,) = json.loads(bulkembed("batches", tmp_path / "out", "--json").out)
    assert job["usd"] == pytest.approx(found["cost"]["usd"], abs=1e-6)


@pytest.mark.faults
def test_media_that_changes_while_its_job_is_open_is_embedded_again(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    names = [f"{number}.png" for number in range(6)]
    source = write_photos(folder / "a.parquet", names)
    for number, name in enumerate(names):
        (folder / name).write_bytes(picture(number))
    time = FakeTime()
    with emulator(time) as server:
        assert embed(server, source, out, *PHOTO, *FAST, "--detach").code == 75
        time.now_s += 3600
        (folder / "2.png").write_bytes(picture(50))
        assert embed(server, source, out, *PHOTO, *FAST, "--detach").code == 75
        time.now_s += 3600
        ended = embed(server, source, out, *PHOTO, *FAST)
        assert ended.code == 0, ended.err
        assert (server.stats()["texts"], server.stats()["texts_paid_twice"]) == (7, 0)
        assert embed(server, source, tmp_path / "online", *PHOTO).code == 0
    assert summary(out)["batch"]["unused"] == 1
    check_same(out, tmp_path / "online")


@pytest.mark.faults
def test_media_that_changes_whenever_it_is_read_ends_online_or_with_the_run(
    tmp_path: Path,
) -> None:
    count = iter(range(1000))
    pages = {
        "/new": lambda page: page.answer(200, picture(100 + next(count))),
        "/same": lambda page: page.answer(200, picture(1)),
    }
    with serving(pages) as host, emulator() as server:
        source = write_photos(
            tmp_path / "in/a.parquet", [f"{host.url}/{n}" for n in ("same", "new")]
        )
        args = (*PHOTO, *FAST, "--allow-private-addresses", "--batch-attempts", 2)
        ended = embed(server, source, tmp_path / "stop", *args, "--batch-fallback", "stop")
        assert (ended.code, "changed while" in ended.err) == (75, True), ended.err
        assert server.stats()["texts"] == 3
        ended = embed(server, source, tmp_path / "out", *args)
        assert ended.code == 0, ended.err
    assert read(tmp_path / "out")["id"].to_pylist() == [0, 1]


def test_a_detached_run_reads_each_url_once_to_submit_and_once_to_commit(tmp_path: Path) -> None:
    pages = {f"/{n}": functools.partial(_show, data=picture(n % 4)) for n in range(6)}
    out, time = tmp_path / "out", FakeTime()
    with serving(pages) as host, emulator(time) as server:
        urls = [f"{host.url}/{n}" for n in [*range(6), *range(6), 9]]
        source = write_photos(tmp_path / "in/a.parquet", urls)
        args = (*PHOTO, *FAST, "--allow-private-addresses", "--max-dead-letters", 5)
        for _ in range(3):
            assert embed(server, source, out, *args, "--detach").code == 75
        asked = dict(host.asked)
        time.now_s += 3600
        ended = embed(server, source, out, *args)
        assert ended.code == 0, ended.err
        assert server.stats()["texts"] == 4
        check_paid_once(server)
    assert max(asked.values()) == 1
    assert dead_codes(out) == {12: "not_found"}
    assert len(read(out)) == 12


def _show(page: Exchange, data: bytes) -> None:
    page.answer(200, data)


def test_pieces_of_long_media_go_into_jobs(tmp_path: Path) -> None:
    files = [wav(400.0), wav(100.0), pdf(8), pdf(1)]
    sounds, papers = pa.array([*files[:2], None, None]), pa.array([None, None, *files[2:]])
    source = write_photos(tmp_path / "in/a.parquet", sounds, paper=papers)
    args = ("--content", "audio:photo", "--content", "pdf:paper", "--long-media", "pieces")
    with emulator() as server:
        ended = embed(server, source, tmp_path / "batch", *args, *FAST, "--batch-job-rows", 2)
        assert ended.code == 0, ended.err
        check_paid_once(server)
        assert server.stats()["calls"] == 0
        assert embed(server, source, tmp_path / "online", *args).code == 0
    check_same(tmp_path / "batch", tmp_path / "online")
    table = read(tmp_path / "batch")
    assert table["id"].to_pylist() == [0, 0, 0, 1, 2, 2, 3]


@pytest.mark.parametrize("fallback", ["online", "stop"])
def test_a_row_too_large_for_a_job_file_is_sent_online_or_stops_the_run(
    tmp_path: Path, fallback: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_files, "MAX_LINE_BYTES", 2000)
    photos = [picture(1), picture(2, side=400, form="BMP"), picture(3)]
    source = write_photos(tmp_path / "in/a.parquet", photos)
    args = (*PHOTO, *FAST, "--batch-fallback", fallback, "--unit-rows", 1)
    with emulator() as server:
        ended = embed(server, source, tmp_path / "out", *args)
        stats = server.stats()
    assert "1 row is too large for a batch job" in ended.err
    if fallback == "online":
        assert ended.code == 0, ended.err
        assert (stats["texts"], stats["calls"], stats["texts_paid_twice"]) == (3, 1, 0)
    else:
        assert ended.code == 75, ended.err
        assert (stats["texts"], stats["calls"]) == (2, 0)


@pytest.mark.faults
def test_media_that_is_not_answered_in_time_is_sent_online(tmp_path: Path) -> None:
    source = mixed(tmp_path / "in")
    out, time = tmp_path / "out", FakeTime()
    with emulator(time) as server:
        args = (*MIXED, *BUDGET)
        assert embed(server, source, out, *args, *FAST, "--detach").code == 75
        auto = ("--mode", "auto", "--batch-max-wait", "0s", "--batch-poll", "0.1s")
        ended = embed(server, source, out, *args, *auto)
        assert ended.code == 0, ended.err
        stats = server.stats()
        assert (stats["batch"]["jobs_left"], stats["texts_paid_twice"]) == (0, 0)
        assert embed(server, source, tmp_path / "online", *args).code == 0
    check_same(out, tmp_path / "online")
    assert dead_codes(out) == dead_codes(tmp_path / "online")


@pytest.mark.faults
def test_a_night_with_media_in_batch_mode_embeds_what_has_changed(tmp_path: Path) -> None:
    out, folder = tmp_path / "out", tmp_path / "in"
    source = write_photos(folder / "a.parquet", [f"{number}.png" for number in range(4)])
    for number in range(4):
        (folder / f"{number}.png").write_bytes(picture(number))
    with emulator() as server:
        args = (*PHOTO, *FAST, "--sync", "--id-column", "id")
        assert embed(server, source, out, *args).code == 0
        (folder / "1.png").write_bytes(picture(50, side=30))
        write_photos(source, [f"{number}.png" for number in (0, 1, 3)])
        ended = embed(server, source, out, *args, "--max-delete", "50%")
        assert ended.code == 0, ended.err
        assert (server.stats()["texts"], server.stats()["calls"]) == (5, 0)
        check_paid_once(server)
        assert embed(server, source, tmp_path / "online", *PHOTO).code == 0
    same = [sorted(map(str, matrix(read(path)))) for path in (out, tmp_path / "online")]
    assert same[0] == same[1]


@pytest.mark.faults
def test_vertex_ai_reads_texts_and_sound_in_jobs_too(
    tmp_path: Path, vertex: tuple[object, ...]
) -> None:
    papers = pa.array([printed("one two three"), None], pa.binary())
    clips = pa.array([None, movie(10, sound=True)], pa.binary())
    source = write(tmp_path / "in/a.parquet", id=range(2), paper=papers, clip=clips)
    args = ("--content", "pdf:paper", "--content", "video:clip", *vertex)
    on = ("--document-ocr", "--audio-track", *args)
    bucket = ("--batch-bucket", tmp_path / "buckets/bucket")
    with emulator(buckets=(("*", str(tmp_path / "buckets")),)) as server:
        ended = embed(server, source, tmp_path / "batch", *on, *FAST, *bucket)
        assert ended.code == 0, ended.err
        assert embed(server, source, tmp_path / "online", *on).code == 0
        assert embed(server, source, tmp_path / "off", *args).code == 0
    check_same(tmp_path / "batch", tmp_path / "online")
    one, other = (matrix(read(tmp_path / name)) for name in ("batch", "off"))
    assert (one != other).any(axis=1).all()
