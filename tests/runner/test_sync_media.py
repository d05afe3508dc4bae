"""`--sync` with images: what a night reads, sends and says, by the form of the column."""

from __future__ import annotations

import http.server
import os
from pathlib import Path

import pyarrow as pa
import pytest
from support.cli import bulkembed, read, run, snapshot
from support.images import picture
from support.media_catalogues import (
    PHOTOS,
    SYNC,
    Catalogue,
    catalogue,
    from_nothing,
    loaded,
    photo,
    put,
    sync,
    write_export,
)
from support.media_samples import wav
from support.server_threads import in_thread
from support.web_pages import Exchange, serving

from bulkembed.emulator.server import EmulatorServer
from bulkembed.transforms.inputs.filesystems import open_store


@pytest.mark.parametrize("form", [pytest.param("bytes", marks=pytest.mark.faults), "path"])
def test_a_night_sends_the_rows_whose_media_or_texts_have_changed(
    server: EmulatorServer, tmp_path: Path, form: str
) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    rows = catalogue(form, source)
    assert sync(server, write_export(source, rows, 0, PHOTOS[form]), output).code == 0
    assert server.stats()["texts"] == 30
    before = snapshot(output)
    again = sync(server, write_export(source, rows, 1, PHOTOS[form]), output)
    assert again.code == 0, again.err
    assert snapshot(output) == before
    rows["p3"] = (rows["p3"][0], photo(form, source, 103), rows["p3"][2])
    rows["p4"] = ("another title", *rows["p4"][1:])
    rows["p5"] = (*rows["p5"][:2], 1000)
    rows["new"] = ("new", photo(form, source, 104), 1)
    rows["text"] = ("only a text", None, 1)
    rows["blank"] = (None, None, 1)
    del rows["p6"], rows["p7"]
    ended = sync(server, write_export(source, rows, 2, PHOTOS[form]), output)
    assert ended.code == 0, ended.err
    assert "25 unchanged, 3 new, 3 changed (1 only in kept columns), 2 deleted" in ended.out
    assert server.stats()["texts"] == 34
    assert server.stats()["texts_paid_twice"] == 0
    assert loaded(output) == from_nothing(source, tmp_path / "other")
    assert read(output, "dead_letters")["id"].to_pylist() == ["blank"]
    changes = bulkembed("changes", output).out
    assert "2 added" in changes, changes
    before = snapshot(output)
    assert sync(server, write_export(source, rows, 3, PHOTOS[form]), output).code == 0
    assert snapshot(output) == before
    assert not list((output / "_run/staged").iterdir())


@pytest.mark.faults
def test_a_file_counts_by_its_size_and_time_and_by_its_bytes_with_rescan(
    server: EmulatorServer, tmp_path: Path
) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    rows = catalogue("path", source, 8)
    assert sync(server, write_export(source, rows, 0, pa.string()), output).code == 0
    # The input itself stays as it is.
    touched, quiet = source / "img/1.jpg", source / "img/2.jpg"
    os.utime(touched, ns=(1, touched.stat().st_mtime_ns + 5_000_000_000))
    at, other = quiet.stat().st_mtime_ns, picture(90)
    size = max(quiet.stat().st_size, len(other))
    for data in (quiet.read_bytes(), other):
        quiet.write_bytes(data.ljust(size, b"\0"))
        os.utime(quiet, ns=(at, at))
        ended = sync(server, source, output)
        assert ended.code == 0, ended.err
    # Touched and padded files were read again; the last one has the size and time of before.
    assert "8 unchanged, 0 new, 0 changed" in ended.out
    assert server.stats()["texts"] == 9
    shown = bulkembed("changes", output, "--format", "jsonl").out
    assert '"p1"' not in shown  # It was written again, with the same vector.
    assert '"p2"' in shown
    before = loaded(output)
    ended = sync(server, source, output, "--rescan")
    assert ended.code == 0, ended.err
    assert "7 unchanged, 0 new, 1 changed" in ended.out
    assert server.stats()["texts"] == 10
    changed = {name for name, facts in loaded(output).items() if facts != before[name]}
    assert changed == {"p2"}
    assert loaded(output) == from_nothing(source, tmp_path / "other")
    assert "8 unchanged" in sync(server, source, output, "--rescan").out


def test_a_url_is_read_again_with_rescan_only(server: EmulatorServer, tmp_path: Path) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    images = {f"/{n}.jpg": picture(n) for n in range(4)}

    def page(exchange: Exchange) -> None:
        exchange.answer(200, images[exchange.path])

    with serving({name: page for name in images}) as web:
        rows: Catalogue = {f"p{n}": ("t", f"{web.url}{at}", 1) for n, at in enumerate(images)}
        rows["gone"] = ("t", f"{web.url}/404.jpg", 1)
        more = ("--allow-private-addresses", "--max-dead-letters", 1)
        write_export(source, rows, 0, pa.string())
        assert sync(server, source, output, *more).code == 0
        asked = sum(web.asked.values())
        images["/1.jpg"] = picture(91)
        before = snapshot(output)
        ended = sync(server, write_export(source, rows, 1, pa.string()), output, *more)
        assert ended.code == 0, ended.err
        assert snapshot(output) == before
        assert sum(web.asked.values()) == asked
        ended = sync(server, source, output, *more, "--rescan")
        assert ended.code == 0, ended.err
        assert "4 unchanged, 0 new, 1 changed" in ended.out
    assert server.stats()["texts"] == 5


@pytest.mark.faults
def test_rows_with_bad_files_are_dead_letters_until_the_files_change(
    server: EmulatorServer, tmp_path: Path
) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    rows = catalogue("path", source, 6)
    rows["missing"] = ("m", "img/missing.jpg", 1)
    rows["html"] = ("h", "img/html.jpg", 1)
    rows["inline"] = ("d", "data:image/png;base64,%%%", 1)
    rows["place"] = ("p", "ftp://example.com/1.jpg", 1)
    put(source, "img/html.jpg", b"<html>404</html>")
    more = ("--max-dead-letters", 4)
    first = sync(server, write_export(source, rows, 0, pa.string()), output, *more)
    assert first.code == 0, first.err
    before, texts = snapshot(output), server.stats()["texts"]
    assert set(read(output, "dead_letters")["id"].to_pylist()) == rows.keys() & {
        "missing", "html", "inline", "place",
    }  # fmt: skip
    again = sync(server, write_export(source, rows, 1, pa.string()), output, *more)
    assert again.code == 0, again.err
    assert snapshot(output) == before
    assert server.stats()["texts"] == texts
    put(source, "img/missing.jpg", picture(70))
    put(source, "img/html.jpg", picture(71))
    (source / "img/3.jpg").unlink()
    ended = sync(server, source, output, *more)
    assert ended.code == 0, ended.err
    assert "7 unchanged, 0 new, 3 changed" in ended.out
    letters = {one["id"]: one for one in read(output, "dead_letters").to_pylist()}
    assert {name: one["code"] for name, one in letters.items()} == {
        "p3": "not_found",
        "inline": "corrupt_media",
        "place": "fetch_failed",
    }
    assert letters["p3"]["message"].startswith("row 1 of night-1-1.parquet: column 'photo': ")
    assert loaded(output) == from_nothing(source, tmp_path / "other", *more)
    retried = sync(server, source, output, *more, "--retry-failed")
    assert "3 failed before" in retried.out, retried.err


@pytest.mark.faults
def test_staged_rows_keep_lists_and_what_messages_say(
    server: EmulatorServer, tmp_path: Path
) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    for number in range(12):
        put(source, f"img/{number}.jpg", picture(number))
    lists = {f"p{n}": ("t", [f"img/{n}.jpg", f"img/{n + 1}.jpg"], 1) for n in range(8)}
    kind = pa.list_(pa.string())
    more = ("--keep-columns", "price,photo", "--max-dead-letters", 2)
    assert sync(server, write_export(source, lists, 0, kind), output, *more).code == 0
    lists["p2"] = ("t", ["img/9.jpg", None, "img/none.jpg"], 1)
    lists["p3"] = ("t", ["img/10.jpg", "img/9.jpg"], 1)
    lists["p4"] = ("t", ["img/1.jpg"] * 7, 1)
    ended = sync(server, write_export(source, lists, 1, kind), output, *more)
    assert ended.code == 0, ended.err
    letters = {one["id"]: one["message"] for one in read(output, "dead_letters").to_pylist()}
    assert letters["p2"].startswith("row 1 of night-1-0.parquet: item 3 of column 'photo': ")
    assert "has a list of 7" in letters["p4"]
    assert loaded(output) == from_nothing(source, tmp_path / "other", *more)
    assert "8 unchanged" in sync(server, source, output, *more).out


@pytest.mark.faults
def test_pieces_of_a_recording_are_compared_as_one_row(
    server: EmulatorServer, tmp_path: Path
) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    sounds = {"a": wav(25), "b": wav(5), "c": wav(45)}
    rows: Catalogue = {}
    for name, data in sounds.items():
        put(source, f"{name}.wav", data)
        rows[name] = (None, f"{name}.wav", 1)
    more = ("--long-media", "pieces", "--piece-seconds", 20, "--content", "audio:photo")
    args = (*SYNC[: SYNC.index("--content")], *more, "--max-delete", "50%")
    ended = run(server.url, write_export(source, rows, 0, pa.string()), output, *args)
    assert ended.code == 0, ended.err
    pieces = read(output).num_rows
    assert pieces > 5
    before = snapshot(output)
    for flags in ((), ("--rescan",)):
        ended = run(server.url, source, output, *args, *flags)
        assert ended.code == 0, ended.err
        assert snapshot(output) == before
    put(source, "b.wav", wav(65))
    ended = run(server.url, source, output, *args)
    assert "2 unchanged, 0 new, 1 changed" in ended.out, ended.err
    assert read(output).num_rows > pieces


class Refusing(http.server.BaseHTTPRequestHandler):
    """A store that answers all requests with an error that is not retried."""

    def do_HEAD(self) -> None:
        self.send_error(400)

    do_GET = do_HEAD

    def log_message(self, *args: object) -> None:
        """Log nothing."""


@pytest.mark.faults
def test_a_store_that_does_not_answer_ends_the_night_before_anything_is_sent(
    server: EmulatorServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    rows = catalogue("path", source, 4)
    rows["long"] = ("t", "img/" + "x" * 300, 1)  # No name of a file; a night goes on.
    more = ("--max-dead-letters", 1)
    assert sync(server, write_export(source, rows, 0, pa.string()), output, *more).code == 0
    before = loaded(output)
    rows["p1"] = ("t1", "s3://bucket/1.jpg", 1)
    rows["new"] = ("new", "img/2.jpg", 1)
    store = http.server.HTTPServer(("127.0.0.1", 0), Refusing)
    with in_thread(store):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{store.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        open_store.cache_clear()
        ended = sync(server, write_export(source, rows, 1, pa.string()), output, *more)
        open_store.cache_clear()
    assert ended.code == 1, ended.err
    assert "s3://bucket/1.jpg" in ended.last
    assert "Nothing was sent" in ended.last
    assert server.stats()["texts"] == 4
    assert loaded(output) == before


@pytest.mark.faults
@pytest.mark.parametrize(
    "more",
    [(), ("--partition-by", "price", "--provenance", "--id-name", "sku")],
    ids=" ".join,
)
def test_a_repaired_and_compacted_dataset_needs_nothing_new(
    server: EmulatorServer, tmp_path: Path, more: tuple[object, ...]
) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    rows = catalogue("path", source)
    rows["none"] = ("t", "img/none.jpg", 1)
    args = (*more, "--max-dead-letters", 1)
    ended = sync(server, write_export(source, rows, 0, pa.string()), output, *args)
    assert ended.code == 0, ended.err
    texts = server.stats()["texts"]
    next((output / "_run/units").iterdir()).unlink()
    repaired = bulkembed("verify", output, "--repair")
    assert repaired.code == 0, repaired.err
    for night in range(2):
        ended = sync(server, write_export(source, rows, night, pa.string()), output, *args)
        assert ended.code == 0, ended.err
        assert server.stats()["texts"] == texts
        for words in (("compact", output), ("verify", output, "--against", source)):
            ended = bulkembed(*words)
            assert ended.code == 0, ended.out + ended.err
    assert "31 unchanged" in sync(server, source, output, *args).out
