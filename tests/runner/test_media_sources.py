"""Images from web servers, tar files and img2dataset, from the command line to the vectors."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest
from support.cli import bulkembed, dead_codes, read, run
from support.images import pictures
from support.media_jobs import MODEL, embed, write
from support.web_pages import Exchange, Page, serving

pytestmark = pytest.mark.faults


def messages(output: Path) -> list[str]:
    table = read(output, "dead_letters").sort_by("source_row")
    found: list[str] = table["message"].to_pylist()
    return found


def test_faults_of_web_servers_are_dead_letters_of_their_rows(url: str, tmp_path: Path) -> None:
    image = pictures(1)[0]
    html = b"<!doctype html><html><p>Not here, sorry.</html>"

    def status(code: int) -> Page:
        return lambda exchange: exchange.answer(code, b"sorry")

    def first_busy(exchange: Exchange) -> None:
        busy = exchange.server.asked["/busy"] == 1
        exchange.answer(503 if busy else 200, b"" if busy else image)

    pages = {
        "/fine": lambda exchange: exchange.answer(200, image),
        "/page": lambda exchange: exchange.answer(200, html),
        "/403": status(403),
        "/busy": first_busy,
        "/down": status(500),
        "/loop": lambda exchange: exchange.answer(302, Location="/loop"),
        "/large": lambda exchange: exchange.answer(200, bytes(300_000)),
        "/empty": lambda exchange: exchange.answer(200),
    }
    with serving(pages) as server:
        names = ["fine", "page", "404", "403", "busy", "down", "loop", "large", "empty"]
        urls = [f"{server.url}/{name}?key=hush" for name in names]
        write(tmp_path / "in.parquet", id=range(len(names)), photo=urls)
        args = ("--content", "image:photo", "--max-source-bytes", "200KB")
        args += ("--max-dead-letters", "100%")
        ended = embed(
            url, tmp_path / "in.parquet", tmp_path / "out", *args, "--allow-private-addresses"
        )
        assert ended.code == 0, ended.err
        assert dead_codes(tmp_path / "out") == {
            1: "unsupported_type", 2: "not_found", 3: "forbidden", 5: "fetch_failed",
            6: "fetch_failed", 7: "too_large", 8: "corrupt_media",
        }  # fmt: skip
        assert sorted(read(tmp_path / "out")["id"].to_pylist()) == [0, 4]
        assert all("column 'photo'" in message for message in messages(tmp_path / "out"))
        assert "hush" not in "".join(messages(tmp_path / "out")) + ended.err + ended.out
        refused = embed(url, tmp_path / "in.parquet", tmp_path / "refused", *args)
    assert refused.code == 3  # No row was embedded.
    assert set(dead_codes(tmp_path / "refused").values()) == {"forbidden"}
    assert "--allow-private-addresses" in messages(tmp_path / "refused")[0]


def test_rows_that_img2dataset_did_not_get_are_dead_letters_with_its_words(
    url: str, tmp_path: Path
) -> None:
    images = pictures(2)
    errors = {
        "HTTP Error 404: Not Found": "not_found",
        "HTTP Error 403: Forbidden": "forbidden",
        "The read operation timed out": "fetch_failed",
    }
    source = write(
        tmp_path / "00000.parquet",
        jpg=pa.array([images[0], *[None] * 4, images[1]], pa.binary()),
        caption=["a boot"] * 6,
        url=["https://example.com/a.jpg"] * 6,
        key=[f"{n:09d}" for n in range(6)],
        status=["success", *["failed_to_download"] * 3, "failed_to_resize", "success"],
        error_message=[None, *errors, "image decoding error", None],
    )
    parts = ("--id-column", "key", "--content", "{caption}", "--content", "image:jpg")
    output = tmp_path / "out"
    ended = embed(url, source, output, *parts, "--max-dead-letters", "100%")
    assert ended.code == 0, ended.err
    codes = dict(enumerate(errors.values(), 1)) | {4: "corrupt_media"}
    assert dead_codes(output) == codes
    for message, error in zip(messages(output), [*errors, "image decoding error"], strict=True):
        assert error in message
        assert "img2dataset" in message
    assert len(read(output)) == 2
    assert bulkembed("verify", output).code == 0
    texts = run(url, source, tmp_path / "texts", *MODEL, "--id-column", "key",
                "--text-column", "caption")  # fmt: skip
    assert texts.code == 0, texts.err
    assert len(read(tmp_path / "texts")) == 6


def test_a_status_of_another_table_decides_nothing(url: str, tmp_path: Path) -> None:
    source = write(
        tmp_path / "in.parquet", id=[1, 2], photo=pictures(2), status=["sold", "success"],
        error_message=["none", None],
    )  # fmt: skip
    keep = ("--keep-columns", "status,error_message")
    ended = embed(url, source, tmp_path / "out", "--content", "image:photo", *keep)
    assert ended.code == 0, ended.err
    assert read(tmp_path / "out")["status"].to_pylist() == ["sold", "success"]


def test_a_run_that_must_stop_does_not_wait_for_a_slow_host(url: str, tmp_path: Path) -> None:
    image, ended = pictures(1)[0], threading.Event()
    signalled: list[float] = []

    def slow(exchange: Exchange) -> None:
        if not signalled:
            signalled.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGTERM)
        ended.wait(60)

    pages = {"/fine": lambda exchange: exchange.answer(200, image), "/slow": slow}
    with serving(pages) as server:
        urls = [f"{server.url}/{name}" for name in ["fine"] * 5 + ["slow"] * 40]
        source = write(tmp_path / "in.parquet", id=range(len(urls)), photo=urls)
        args = ("--content", "image:photo", "--allow-private-addresses", "--fetch-timeout", "60s")
        stopped = embed(url, source, tmp_path / "out", *args)
        took_s = time.monotonic() - signalled[0]
        ended.set()
        assert stopped.code == 75, stopped.err
        assert took_s < 25
        assert "please report" not in stopped.err
        server.pages["/slow"] = pages["/fine"]
        resumed = embed(url, source, tmp_path / "out", *args)
    assert resumed.code == 0, resumed.err
    assert len(read(tmp_path / "out")) == 45
    assert not dead_codes(tmp_path / "out")
