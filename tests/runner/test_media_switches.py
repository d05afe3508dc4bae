"""What Vertex AI reads in PDF files and videos if `--document-ocr` and `--audio-track` are set."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that
from support.cli import bulkembed, dead_codes, matrix, read, summary
from support.media_jobs import MODEL, embed, on_vertex, write
from support.recordings import movie, printed

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.media_settings import LongMedia, MediaSettings
from bulkembed.transforms.clients.transport import service_from
from bulkembed.transforms.embed_rows import EmbedRows, Gemini

PARTS = ("--content", "pdf:manual", "--content", "video:clip")
ON = ("--document-ocr", "--audio-track")
PDF_ROW, HEARD_ROW, SILENT_ROW, LONG_ROW, LONG_SILENT_ROW = range(5)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A PDF file, and videos with and without sound."""
    clips = [None, movie(10, sound=True), movie(10), movie(100, sound=True), movie(100)]
    return write(
        tmp_path / "in/a.parquet", id=range(5),
        manual=pa.array([printed("one two three"), None, None, None, None], pa.binary()),
        clip=pa.array(clips, pa.binary()),
    )  # fmt: skip


def test_both_switches_change_the_vectors_of_their_media_and_count_its_tokens(
    url: str, tmp_path: Path, source: Path
) -> None:
    vertex = (*on_vertex(tmp_path), *PARTS, "--price-usd-per-mtok", 0.2)
    assert embed(url, source, tmp_path / "off", *vertex).code == 0
    ended = embed(url, source, tmp_path / "on", *vertex, *ON, "--max-dead-letters", 1)
    assert ended.code == 0, ended.err
    assert dead_codes(tmp_path / "on") == {LONG_ROW: "too_long"}
    (letter,) = read(tmp_path / "on", "dead_letters").to_pylist()
    assert "at most 80 s of a video with its audio track" in letter["message"]
    off, on = (
        {row["id"]: row["vector"] for row in read(tmp_path / name).to_pylist()}
        for name in ("off", "on")
    )
    assert off[PDF_ROW] != on[PDF_ROW]
    assert off[HEARD_ROW] != on[HEARD_ROW]
    assert off[SILENT_ROW] == on[SILENT_ROW]
    assert off[LONG_SILENT_ROW] == on[LONG_SILENT_ROW]
    frames = 66 * (10 + 10 + 100)
    counts = summary(tmp_path / "on")["counts"]
    assert (counts["image_tokens"], counts["audio_tokens"], counts["video_tokens"]) == (
        258, 250, frames,
    )  # fmt: skip
    assert counts["tokens"] == 258 + 3 + 250 + frames
    assert summary(tmp_path / "off")["counts"]["audio_tokens"] == 0
    # The estimate has all of it but the three words that the service reads in the PDF file.
    ended = bulkembed(
        "estimate", "--input", source, "--base-url", url, *MODEL, *vertex, *ON, "--json"
    )
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert found["tokens"]["value"] == counts["tokens"] - 3
    expected_usd = (258 * 0.45 + 250 * 6.5 + frames * 12) / 1e6
    assert found["usd"] == pytest.approx(expected_usd, rel=1e-3)
    assert summary(tmp_path / "on")["cost"]["usd"] == pytest.approx(expected_usd, rel=1e-3)


def test_a_dataset_with_the_switches_is_verified_and_searched(
    url: str, tmp_path: Path, source: Path
) -> None:
    vertex, output = on_vertex(tmp_path), tmp_path / "out"
    assert embed(url, source, output, *vertex, *PARTS, *ON).code == 0
    where = (output, "--base-url", url, *vertex)
    ended = bulkembed("verify", *where, "--against", source, "--sample", 4)
    assert ended.code == 0, ended.out + ended.err
    assert "4 rows embedded again, lowest cosine 1.0" in ended.out
    ended = bulkembed("search", *where, "one two three", "-k", 1, "--json")
    assert ended.code == 0, ended.err
    assert [row["id"] for row in json.loads(ended.out)["rows"]] == [PDF_ROW]


def test_the_switches_are_fixed_for_a_dataset(url: str, tmp_path: Path, source: Path) -> None:
    vertex = (*on_vertex(tmp_path), *PARTS)
    assert embed(url, source, tmp_path / "out", *vertex).code == 0
    for flag in ON:
        ended = embed(url, source, tmp_path / "out", *vertex, flag)
        assert ended.code == 2, ended.err
        assert flag.removeprefix("--").replace("-", "_") in ended.err


def test_a_dataset_has_media_of_one_service_behind_a_base_url(url: str, tmp_path: Path) -> None:
    source = write(tmp_path / "in/a.parquet", id=[1], manual=[printed("one two three")])
    part, vertex, output = ("--content", "pdf:manual"), on_vertex(tmp_path), tmp_path / "out"
    assert embed(url, source, output, *vertex, *part).code == 0
    ended = embed(url, source, output, *part)
    assert ended.code == 2, ended.err
    assert "run: media.vertexai is True in the dataset and False in this run. Choose" in ended.last
    ended = bulkembed("search", output, "--base-url", url, "one")
    assert ended.code == 2, ended.err
    assert "come from custom:127.0.0.1 with --vertexai, but" in ended.last


def test_the_cost_cap_holds_if_the_service_reads_pdf_files(url: str, tmp_path: Path) -> None:
    manuals = [printed(" ".join([f"word{n}"] * 2000)) for n in range(20)]
    source = write(tmp_path / "in/a.parquet", id=range(20), manual=manuals)
    args = (*on_vertex(tmp_path), "--content", "pdf:manual", "--document-ocr")
    price = ("--price-usd-per-mtok", 0.2, "--max-cost-usd", 0.004)
    ended = embed(url, source, tmp_path / "out", *args, *price)
    assert ended.code == 4, ended.err
    found = summary(tmp_path / "out")
    assert found["run"]["embedded"] > 0
    assert found["cost"]["usd"] <= 0.004


@pytest.mark.parametrize(
    ("args", "words"),
    [
        pytest.param((*PARTS, "--document-ocr"), "works on Vertex AI only", id="document-ocr"),
        pytest.param((*PARTS, "--audio-track"), "works on Vertex AI only", id="audio-track"),
        pytest.param(
            ("--text-column", "id", "--audio-track"), "needs media in --content", id="texts"
        ),
        pytest.param(
            ("--content", "video:clip", "--document-ocr"), "needs pdf:COLUMN", id="no pdf"
        ),
        pytest.param(
            ("--content", "pdf:manual", "--audio-track"), "needs video:COLUMN", id="no video"
        ),
    ],
)
def test_a_switch_without_effect_is_refused(
    url: str, tmp_path: Path, source: Path, args: tuple[object, ...], words: str
) -> None:
    ended = embed(url, source, tmp_path / "out", *args)
    assert (ended.code, words in ended.err) == (2, True), ended.err
    assert not (tmp_path / "out").exists()


def test_embed_rows_has_the_switches(url: str, tmp_path: Path, source: Path) -> None:
    vertex = (*on_vertex(tmp_path), *PARTS, *ON)
    assert embed(url, source, tmp_path / "out", *vertex).code == 0
    expected = matrix(read(tmp_path / "out"))
    media = MediaSettings(document_ocr=True, audio_track=True, long_media=LongMedia.DEAD_LETTER)
    content = ["pdf:manual", "video:clip"]
    service = service_from(base_url=url, vertexai=True, api_key_file=str(tmp_path / "key"))
    gemini = Gemini("gemini-embedding-2", dim=128, service=service)

    def check(found: Iterable[Any]) -> None:
        vectors = {row["id"]: row["vector"] for row in found}
        assert sorted(vectors) == [PDF_ROW, HEARD_ROW, SILENT_ROW, LONG_SILENT_ROW]
        assert np.allclose([vectors[row] for row in sorted(vectors)], expected)

    rows = pq.read_table(source).to_pylist()
    with beam.Pipeline("FnApiRunner") as pipeline:
        good, _ = (
            pipeline
            | beam.Create(rows)
            | EmbedRows(gemini, content=content, media=media).with_exception_handling()
        )
        assert_that(good, check)
    developer = Gemini("gemini-embedding-2", service=service_from(base_url=url))
    with pytest.raises(ConfigError, match="--document-ocr works on Vertex AI only"):
        EmbedRows(developer, content=content, media=media)
    with pytest.raises(ConfigError, match="--audio-track needs video:COLUMN"):
        EmbedRows(gemini, content=content[:1], media=media)
    with pytest.raises(ConfigError, match="long_media 'pieces' works in `bulkembed run` only"):
        EmbedRows(gemini, content=content, media=MediaSettings(long_media=LongMedia.PIECES))
    with pytest.raises(ConfigError, match="media needs content with media"):
        EmbedRows(gemini, text_column="text", media=media)
