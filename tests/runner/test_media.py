"""Images beside texts, from the command line to the vectors."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that
from support.cli import bulkembed, dead_codes, matrix, read, run, summary
from support.images import column_forms, picture, pictures
from support.media_jobs import MODEL, PHOTO, embed, on_vertex
from support.media_jobs import write_photos as write
from support.media_samples import pdf, wav
from support.web_pages import Exchange, serving

from bulkembed.emulator.media_rules import MediaRules, VertexBatch
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.schemas.errors import ConfigError
from bulkembed.transforms.clients.transport import service_from
from bulkembed.transforms.embed_rows import EmbedRows, Gemini
from bulkembed.transforms.units import media_units

ROWS = 12


def test_images_in_every_form_of_a_column_have_the_same_vectors_and_hashes(
    url: str, tmp_path: Path
) -> None:
    images = pictures(ROWS)
    folder = tmp_path / "in"
    forms = column_forms(images, folder)
    sources = {name: write(folder / f"{name}.parquet", form) for name, form in forms.items()}
    for name in ("struct of paths", "path", "data uri", "base64"):
        rows = [{"id": n, "photo": value} for n, value in enumerate(forms[name].to_pylist())]
        sources[f"{name} in JSONL"] = folder / f"{name}.jsonl"
        sources[f"{name} in JSONL"].write_text("\n".join(map(json.dumps, rows)))
    found = {}
    for name, source in sources.items():
        ended = embed(url, source, tmp_path / name, *PHOTO)
        assert ended.code == 0, f"{name}: {ended.err}"
        found[name] = read(tmp_path / name)
    first = found["binary"]
    assert len(np.unique(matrix(first), axis=0)) == ROWS
    for name, table in found.items():
        assert np.array_equal(matrix(table), matrix(first)), name
        assert table["text_hash"] == first["text_hash"], name
    assert first["media"].to_pylist() == [
        [{"kind": "image", "mime_type": mime, "bytes": len(data), "uri": None}]
        for data, mime in zip(images, ["image/jpeg", "image/png"] * (ROWS // 2), strict=True)
    ]
    assert found["path"]["media"][3].as_py()[0]["uri"] == "img/3.jpg"


def test_a_run_warns_of_pages_that_are_read_as_a_whole(url: str, tmp_path: Path) -> None:
    values = [bytes([row]) * 1_000_000 for row in range(40)]
    write(tmp_path / "in/lists.parquet", [[value] for value in values])
    write(tmp_path / "in/plain.parquet", values)
    ended = embed(url, tmp_path / "in", tmp_path / "out", *PHOTO, "--limit-rows", 1)
    warnings = [line for line in ended.err.splitlines() if "memory" in line]
    assert len(warnings) == 1
    assert re.search(r"lists\.parquet has pages of (39|40) MB .* 5[67]\d MB of memory", warnings[0])
    assert "write_batch_size=10" in warnings[0]


def test_texts_beside_images_change_vectors_and_null_parts_are_left_out(
    url: str, tmp_path: Path
) -> None:
    red, blue = picture(1), picture(2)
    photos = [red, red, red, None, None, None, blue]
    titles = ["boot", "coat", None, "boot", None, " ", "boot"]
    more = [None, None, [blue], None, None, [], None]
    source = write(
        tmp_path / "in/a.parquet", pa.array(photos, pa.binary()),
        title=pa.array(titles, pa.string()), more=pa.array(more, pa.list_(pa.binary())),
    )  # fmt: skip
    parts = ("--content", "a {title}", *PHOTO, "--content", "image:more")
    ended = embed(url, source, tmp_path / "out", *parts)
    assert ended.code == 0, ended.err
    table = read(tmp_path / "out")
    assert table["id"].to_pylist() == [0, 1, 2, 3, 6]
    assert len(np.unique(matrix(table), axis=0)) == 5
    assert [len(one) for one in table["media"].to_pylist()] == [1, 1, 2, 0, 1]
    assert dead_codes(tmp_path / "out") == {4: "blank_text", 5: "blank_text"}
    # A row that is one text is sent with the prefix of its task, as in a dataset of texts.
    texts = tmp_path / "texts"
    assert embed(url, source, texts, "--content", "a {title}").code == 0
    alone = {row["id"]: row for row in read(texts).to_pylist()}
    assert alone[3]["vector"] == table["vector"][3].as_py()
    assert alone[3]["text_hash"] == table["text_hash"][3].as_py()
    assert "media" not in alone[3]


def test_one_text_of_content_is_a_text_column_or_a_template(url: str, tmp_path: Path) -> None:
    source = write(tmp_path / "in/a.parquet", ["x", "y"])
    for typed, flag, value in (
        ("text:photo", "--text-column", "photo"),
        (r"1\n{photo}", "--text-template", r"1\n{photo}"),
    ):
        outputs = [tmp_path / f"{flag}-{number}" for number in range(2)]
        assert embed(url, source, outputs[0], "--content", typed).code == 0
        assert embed(url, source, outputs[1], flag, value).code == 0
        first, second = (json.loads((out / "_run/run.json").read_text()) for out in outputs)
        assert first["layout"] == second["layout"]
        assert first["embedding_digest"] == second["embedding_digest"]
        assert first["settings"]["content"] == []


def test_a_bad_image_costs_its_row_and_no_call(url: str, tmp_path: Path) -> None:
    good = picture(0)
    photos = [good, b"", b"<html>404</html>", good[: len(good) // 2], picture(1), "img/no.jpg"]
    values = [
        {"bytes": one, "path": None} if isinstance(one, bytes) else {"bytes": None, "path": one}
        for one in photos
    ]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    source = write(tmp_path / "in/a.parquet", pa.array(values, struct))
    ended = embed(url, source, tmp_path / "out", *PHOTO, "--max-dead-letters", 4)
    assert ended.code == 0, ended.err
    assert dead_codes(tmp_path / "out") == {
        1: "corrupt_media",
        2: "unsupported_type",
        3: "corrupt_media",
        5: "not_found",
    }
    letters = read(tmp_path / "out", "dead_letters").to_pylist()
    assert [letter["attempts"] for letter in letters] == [0] * 4
    assert letters[1]["message"] == (
        "row 2 of a.parquet: column 'photo': an HTML page instead of an image"
    )
    assert "img/no.jpg" in letters[3]["message"]
    assert summary(tmp_path / "out")["counts"]["texts"] == 2


def test_the_same_image_is_paid_once_over_files_units_and_runs(url: str, tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    write(folder / "a.parquet", [picture(n % 4) for n in range(10)])
    write(folder / "b.parquet", [picture(n % 5) for n in range(10)])
    args = (*PHOTO, "--unit-rows", 3)
    assert embed(url, folder, output, *args).code == 0
    assert summary(output)["counts"]["texts"] == 5
    write(folder / "c.parquet", [picture(n) for n in range(7)])
    assert embed(url, folder, output, *args).code == 0
    assert summary(output)["counts"]["texts"] == 2
    write(folder / "a.parquet", [picture(n % 4) for n in range(9)])
    assert embed(url, folder, output, *args).code == 0
    assert summary(output)["counts"]["texts"] == 0
    assert read(output).num_rows == 26


def test_the_same_file_is_paid_once_over_units_and_runs(url: str, tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    (folder / "img").mkdir(parents=True)
    for number in range(8):
        (folder / f"img/{number}.png").write_bytes(picture(number % 6))
    names = [f"img/{number}.png" for number in range(8)]
    write(folder / "a.parquet", [names[n % 4] for n in range(10)])
    args = (*PHOTO, "--unit-rows", 3)
    assert embed(url, folder, output, *args).code == 0
    assert summary(output)["counts"]["texts"] == 4
    # Another file with the same pictures, in rows of other numbers, some of them at other paths.
    write(folder / "b.parquet", [names[n] for n in (5, 0, 6, 0, 4, 4, 7)])
    assert embed(url, folder, output, *args).code == 0
    found = summary(output)
    assert found["counts"]["texts"] == 2
    assert found["counts"]["reused"] == 4
    assert read(output).num_rows == 17
    assert len(np.unique(matrix(read(output)), axis=0)) == 6


def test_a_run_that_must_end_does_not_wait_for_slow_hosts(url: str, tmp_path: Path) -> None:
    released = threading.Event()

    def hangs(exchange: Exchange) -> None:
        released.wait(120)
        exchange.answer(200, picture(1))

    with serving({"/slow.png": hangs}) as server:
        photos = [None, *[f"{server.url}/slow.png?{n}" for n in range(50)]]
        source = write(tmp_path / "in/a.parquet", pa.array(photos, pa.string()))
        started = time.monotonic()
        args = ("--allow-private-addresses", "--max-runtime", "3s", "--fetch-timeout", "60s")
        ended = embed(url, source, tmp_path / "out", *PHOTO, *args)
        released.set()
    assert ended.code == 75, ended.err
    assert time.monotonic() - started < 25
    assert "Traceback" not in ended.err
    assert "never awaited" not in ended.err


def test_files_that_come_later_are_embedded_by_a_retry(url: str, tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    names = pa.array(["img/0.png", "img/1.png", None, "img/2.png"])
    source = write(folder / "a.parquet", names)
    (folder / "img").mkdir()
    (folder / "img/1.png").write_bytes(picture(1))
    assert embed(url, source, output, *PHOTO).code == 0
    assert dead_codes(output) == {0: "not_found", 2: "blank_text", 3: "not_found"}
    (folder / "img/0.png").write_bytes(picture(0))
    assert embed(url, source, output, *PHOTO, "--retry-failed").code == 0
    assert dead_codes(output) == {2: "blank_text", 3: "not_found"}
    assert read(output)["id"].to_pylist() == [0, 1]
    assert summary(output)["counts"]["texts"] == 1
    assert bulkembed("verify", output).code == 0


def test_only_the_settings_of_media_that_differ_are_named(url: str, tmp_path: Path) -> None:
    source = write(tmp_path / "in/a.parquet", pa.array([picture(1)], pa.binary()))
    assert embed(url, source, tmp_path / "out", *PHOTO).code == 0
    ended = embed(url, source, tmp_path / "out", *PHOTO, "--max-image-side", 100)
    assert ended.code == 2
    assert (
        "run: media.max_image_side is not set in the dataset and 100 in this run. Choose"
        in ended.last
    )


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_media_root_that_does_not_exist_is_one_error(url: str, tmp_path: Path, form: str) -> None:
    source = write(tmp_path / "in/a.parquet", ["1.png", "2.png"])
    root = form.format(tmp_path / "there")
    for command in ("run", "estimate"):
        out = ("--output", tmp_path / "out") * (command == "run")
        ended = bulkembed(
            command, "--input", source, "--base-url", url, *out, *MODEL, *PHOTO,
            "--media-root", root,
        )  # fmt: skip
        assert ended.code == 2, ended.err
        assert f"--media-root {root}: there is no such folder" in ended.last
    assert not (tmp_path / "out/vectors").exists()


def test_rows_with_media_are_written_into_partitions(url: str, tmp_path: Path) -> None:
    langs = ["de", "en", "de", "fr"]
    source = write(tmp_path / "in/a.parquet", pictures(4), lang=langs)
    keep = ("--keep-columns", "lang", "--partition-by", "lang")
    ended = embed(url, source, tmp_path / "out", *PHOTO, *keep)
    assert ended.code == 0, ended.err
    table = read(tmp_path / "out")
    assert table["lang"].to_pylist() == langs
    assert [row[0]["bytes"] for row in table["media"].to_pylist()] == [
        len(one) for one in pictures(4)
    ]
    assert bulkembed("verify", tmp_path / "out").code == 0


def test_long_media_is_cut_into_rows_with_their_places(url: str, tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    table = {
        "id": range(5),
        "title": ["call", None, "text alone", None, "call"],
        "call": pa.array([wav(150.0), wav(20.0), None, None, wav(150.0)], pa.binary()),
        "manual": pa.array([None, None, None, pdf(7), None], pa.binary()),
    }
    folder.mkdir()
    pq.write_table(pa.table(table), folder / "a.parquet")
    args = (
        "--content", "{title}", "--content", "audio:call", "--content", "pdf:manual",
        "--long-media", "pieces", "--piece-seconds", 60, "--piece-overlap-seconds", 10,
        "--piece-pages", 4, "--price-usd-per-mtok", 0.2,
    )  # fmt: skip
    planned = bulkembed("estimate", "--input", folder, "--base-url", url, *MODEL, *args)
    assert "3 cut into pieces" in planned.out
    ended = embed(url, folder, output, *args)
    assert ended.code == 0, ended.err
    shown = bulkembed("search", output, "text alone", "--base-url", url)
    assert "50.0" in shown.out
    assert "None" not in shown.out
    found = read(output)
    names = ("id", "passage", "start", "end")
    rows = list(zip(*(found[name].to_pylist() for name in names), strict=True))
    call = [(0, 0.0, 60.0), (1, 50.0, 110.0), (2, 100.0, 150.0)]
    assert rows == [
        *((0, *one) for one in call),
        (1, 0, None, None),
        (2, 0, None, None),
        (3, 0, 0.0, 4.0),
        (3, 1, 4.0, 7.0),
        *((4, *one) for one in call),
    ]
    assert len(np.unique(matrix(found), axis=0)) == 7
    assert summary(output)["counts"]["texts"] == 7
    assert found["media"][0].as_py()[0]["mime_type"] == "audio/wav"
    assert bulkembed("verify", output).code == 0
    # Pieces are known by their hashes: another file with the same recording costs nothing.
    pq.write_table(pa.table({**table, "id": range(10, 15)}).slice(0, 4), folder / "b.parquet")
    assert embed(url, folder, output, *args).code == 0
    assert summary(output)["counts"]["texts"] == 0
    assert read(output).num_rows == 10 + 7
    assert bulkembed("compact", output).code == 0
    assert bulkembed("verify", output).code == 0
    two = pa.table({"id": [0], "call": [wav(150.0)], "manual": [pdf(7)]})
    pq.write_table(two, tmp_path / "two.parquet")
    ended = embed(url, tmp_path / "two.parquet", tmp_path / "two", *args[2:])
    assert dead_codes(tmp_path / "two") == {0: "too_long"}


def test_units_are_split_where_their_media_gets_large(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(picture(1))
    monkeypatch.setattr(media_units, "WINDOW_BYTES", 2 * size)
    monkeypatch.setattr(media_units, "SPOOL_BYTES", 5 * size)
    images = pictures(30)
    source = write(tmp_path / "in/a.parquet", images)
    ended = embed(url, source, tmp_path / "out", *PHOTO, "--keep-columns", "photo")
    assert ended.code == 0, ended.err
    assert len(list((tmp_path / "out/_run/units").iterdir())) > 3
    table = read(tmp_path / "out")
    assert table["photo"].to_pylist() == images
    whole = write(tmp_path / "in/b.parquet", images)
    monkeypatch.undo()
    assert embed(url, whole, tmp_path / "whole", *PHOTO).code == 0
    assert np.array_equal(matrix(read(tmp_path / "whole")), matrix(table))


def test_a_dataset_with_media_is_verified_searched_shown_and_compacted(
    url: str, tmp_path: Path
) -> None:
    source = write(tmp_path / "in/a.parquet", pictures(9))
    output = tmp_path / "out"
    assert embed(url, source, output, *PHOTO, "--unit-rows", 4).code == 0
    for args in (
        ("verify", output),
        ("status", output),
        ("compact", output),
        ("verify", output),
        ("search", output, "red", "--base-url", url),
    ):
        ended = bulkembed(*args)
        assert ended.code == 0, ended.err
    assert read(output)["media"].null_count == 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        pytest.param((), "takes texts only. Use --model gemini-embedding-2", id="model"),
        pytest.param(
            (*MODEL, "--text-column", "x"), "either --text-column or --content", id="text"
        ),
        pytest.param((*MODEL, "--title-column", "x"), "--title-column cannot be", id="title"),
        pytest.param((*MODEL, "--long-text", "mean"), "--long-text mean cannot", id="long text"),
        pytest.param((*MODEL, "--content", "photo"), "names no column", id="no part"),
        pytest.param((*MODEL, "--content", "image:foto"), "has no column 'foto'", id="missing"),
        pytest.param((*MODEL, "--content", "image:id"), "int64, which holds no media", id="type"),
    ],
)
def test_what_does_not_take_media_is_refused_before_anything_is_sent(
    url: str, tmp_path: Path, args: tuple[object, ...], words: str
) -> None:
    source = write(tmp_path / "in/a.parquet", pictures(1))
    ended = run(url, source, tmp_path / "out", *PHOTO, *args)
    assert (ended.code, words in ended.err) == (2, True), ended.err
    assert not (tmp_path / "out/vectors").exists()


@pytest.mark.parametrize("form", ["binary", "path"])
def test_an_estimate_of_media_agrees_with_the_run(url: str, tmp_path: Path, form: str) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    images = [*pictures(9), *pictures(3), b"no image"]
    source = write(folder / "a.parquet", column_forms(images, folder)[form])
    distinct = 9
    args = (*PHOTO, "--price-usd-per-mtok", 0.2, "--unit-rows", 4)
    planned = ("estimate", "--input", source, "--base-url", url, *MODEL, *args)
    ended = bulkembed(*planned, "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert (found["texts"]["value"], found["tokens"]["value"]) == (
        distinct,
        distinct * 258,
    )
    assert (found["repeated"]["value"], found["unfit"]["value"]) == (12 - distinct, 1)
    assert (found["batch"]["jobs"], found["batch_usd"]) == (1, found["usd"] / 2)
    assert embed(url, source, output, *args, "--max-dead-letters", 1).code == 0
    counted = summary(output)
    assert counted["counts"]["texts"] == distinct
    assert counted["cost"]["usd"] == pytest.approx(found["usd"], rel=1e-3)
    shown = bulkembed(*planned).out
    assert "USD at 0.2 USD per million tokens of text" in shown
    assert f"contents  {distinct} to send" in shown
    again = bulkembed(*planned, "--output", output, "--json")
    assert json.loads(again.out)["texts"]["value"] == 0


def test_other_media_settings_need_another_output(url: str, tmp_path: Path) -> None:
    source = write(tmp_path / "in/a.parquet", pictures(1))
    assert embed(url, source, tmp_path / "out", *PHOTO).code == 0
    ended = embed(url, source, tmp_path / "out", *PHOTO, "--max-image-side", 100)
    assert (ended.code, "max_image_side" in ended.err) == (2, True), ended.err
    ended = embed(url, source, tmp_path / "out", "--content", "x {id}", *PHOTO)
    assert ended.code == 2, ended.err


@pytest.mark.parametrize("vertex_batch", VertexBatch)
@pytest.mark.parametrize("kind", ["image", "text", "both"])
def test_n_rows_have_n_vectors_on_vertex_also_where_a_call_takes_one_content(
    tmp_path: Path, vertex_batch: VertexBatch, kind: str
) -> None:
    source = write(tmp_path / "in/a.parquet", pictures(ROWS), text=[f"t {n}" for n in range(ROWS)])
    contents = {"image": PHOTO, "text": ("--text-column", "text")}
    content = contents.get(kind, ("--content", "{text}", *PHOTO))
    settings = EmulatorSettings(vertex_batch=vertex_batch)
    with EmulatorServer(settings) as server:
        args = (*on_vertex(tmp_path), "--concurrency", 2)
        ended = embed(server.url, source, tmp_path / "out", *content, *args)
        assert ended.code == 0, ended.err
        developer = embed(server.url, source, tmp_path / "developer", *content)
        assert developer.code == 0, developer.err
    table = read(tmp_path / "out")
    assert len(np.unique(matrix(table), axis=0)) == ROWS
    assert np.array_equal(matrix(table), matrix(read(tmp_path / "developer")))
    calls = summary(tmp_path / "out")["counts"]["calls"]
    assert calls == (1 if vertex_batch is VertexBatch.SERVE else ROWS)
    if vertex_batch is VertexBatch.MISSING:
        noun = "text" if kind == "text" else "content"
        assert f"does not accept {ROWS} {noun}s per request. bulkembed sends at most 1" in ended.err


@pytest.mark.parametrize("vertex_batch", [VertexBatch.SERVE, VertexBatch.MISSING])
def test_n_rows_of_a_pipeline_have_n_vectors_on_vertex(
    tmp_path: Path, vertex_batch: VertexBatch
) -> None:
    images = pictures(ROWS)
    rows = [{"id": n, "title": f"t {n % 3}", "photo": image} for n, image in enumerate(images)]

    def check(found: Iterable[Any]) -> None:
        vectors = np.array([row["vector"] for row in found])
        assert len(np.unique(vectors, axis=0)) == len(vectors) == ROWS

    with EmulatorServer(EmulatorSettings(vertex_batch=vertex_batch)) as server:
        service = service_from(base_url=server.url, vertexai=True, api_key_file=key(tmp_path))
        gemini = Gemini("gemini-embedding-2", dim=128, service=service)
        with beam.Pipeline("FnApiRunner") as pipeline:
            out = (
                pipeline
                | beam.Create(rows, reshuffle=False)
                | EmbedRows(gemini, content=["{title}", "image:photo"])
            )
            assert_that(out, check)
        assert server.stats()["texts"] == ROWS


def key(folder: Path) -> str:
    return str(on_vertex(folder)[-1])


def test_media_is_counted_by_its_own_price(url: str, tmp_path: Path) -> None:
    source = write(tmp_path / "in/a.parquet", pictures(ROWS))
    price = ("--price-usd-per-mtok", 0.2)
    ended = embed(url, source, tmp_path / "out", *PHOTO, *price)
    assert ended.code == 0, ended.err
    assert "1 with 12 contents" in ended.out
    found = summary(tmp_path / "out")
    assert found["counts"]["image_tokens"] == found["counts"]["tokens"] == 258 * ROWS
    assert found["cost"]["usd"] == pytest.approx(258 * ROWS * 0.45 / 1e6, abs=1e-6)
    shown = bulkembed("status", tmp_path / "out").out
    assert "1 with 12 contents, 3,096 tokens (3,096 of images)" in shown
    assert "6,966 tokens at the price of text, 0.0014 USD" in shown


def test_the_cost_cap_holds_with_media(url: str, tmp_path: Path) -> None:
    source = write(tmp_path / "in/a.parquet", pictures(40))
    args = (*PHOTO, "--price-usd-per-mtok", 0.2)
    ended = embed(url, source, tmp_path / "out", *args, "--max-cost-usd", 0.002)
    assert ended.code == 4, ended.err
    found = summary(tmp_path / "out")
    assert 0 < found["run"]["embedded"] <= 0.002 / (258 * 0.45 / 1e6)
    assert found["cost"]["usd"] <= 0.002


def test_embed_rows_gives_images_the_vectors_of_the_command(url: str, tmp_path: Path) -> None:
    images = pictures(5)
    source = write(tmp_path / "in/a.parquet", images, title=[f"thing {n}" for n in range(5)])
    parts = ("{title}", "image:photo")
    flags = [arg for part in parts for arg in ("--content", part)]
    assert embed(url, source, tmp_path / "out", *flags).code == 0
    expected = matrix(read(tmp_path / "out"))
    for number, data in enumerate(images):
        (tmp_path / f"{number}.png").write_bytes(data)
    gemini = Gemini("gemini-embedding-2", dim=128, service=service_from(base_url=url))
    rows = [
        {"id": n, "title": f"thing {n}", "photo": data if n % 2 else str(tmp_path / f"{n}.png")}
        for n, data in enumerate(images)
    ]
    rows += [
        {"id": 5, "title": None, "photo": b"no image"},
        {"id": 6, "title": "", "photo": None},
        {"id": 7, "title": "x", "photo": 3},
        {"id": 8, "title": "x", "photo": "missing.png"},
    ]

    def check(found: Iterable[dict[str, Any]]) -> None:
        by_id = {row["id"]: row["vector"] for row in found}
        assert sorted(by_id) == [0, 1, 2, 3, 4]
        assert np.allclose([by_id[n] for n in range(5)], expected)

    def check_dead(found: Iterable[Any]) -> None:
        assert sorted((one.element["id"], one.code) for one in found) == [
            (5, "unsupported_type"),
            (6, "blank_text"),
            (7, "unsupported_type"),
            (8, "not_found"),
        ]

    with beam.Pipeline("FnApiRunner") as pipeline:
        good, bad = (
            pipeline
            | beam.Create(rows)
            | EmbedRows(gemini, content=parts).with_exception_handling()
        )
        assert_that(good, check, label="good")
        assert_that(bad, check_dead, label="bad")
    arrow = pa.RecordBatch.from_pylist(
        [{"title": f"thing {n}", "photo": data} for n, data in enumerate(images)]
    )

    def check_arrow(found: Iterable[pa.RecordBatch]) -> None:
        assert np.allclose(np.concatenate([matrix(pa.table(one)) for one in found]), expected)

    with beam.Pipeline("FnApiRunner") as pipeline:
        out = pipeline | beam.Create([arrow]) | EmbedRows(gemini, content=parts)
        assert_that(out, check_arrow)


def test_embed_rows_refuses_media_that_its_model_does_not_take() -> None:
    with pytest.raises(ConfigError, match="takes texts only"):
        EmbedRows(Gemini(), content=["image:photo"])
    with pytest.raises(ConfigError, match="content names no media"):
        EmbedRows(Gemini("gemini-embedding-2"), content=["{title}"])
    with pytest.raises(ConfigError, match="not several"):
        EmbedRows(Gemini("gemini-embedding-2"), text_column="a", content=["image:photo"])


@pytest.mark.parametrize("status", [400, 413])
def test_a_smaller_limit_on_bodies_is_learned_and_costs_no_row(tmp_path: Path, status: int) -> None:
    images = pictures(30)
    source = write(tmp_path / "in/a.parquet", images)
    settings = EmulatorSettings(media=MediaRules(body_bytes=8_000, body_status=status))
    with EmulatorServer(settings) as server:
        ended = embed(server.url, source, tmp_path / "out", *PHOTO, "--concurrency", 1)
        assert ended.code == 0, ended.err
        refused = server.stats()["calls"] - summary(tmp_path / "out")["counts"]["calls"]
    assert read(tmp_path / "out").num_rows == 30
    assert "the service does not accept requests of" in ended.err
    assert refused <= 4
