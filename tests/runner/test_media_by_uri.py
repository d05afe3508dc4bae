"""`--media-by-uri`: Vertex AI reads files in buckets itself, and their bytes stay there."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support import media_jobs
from support.cli import Ended, bulkembed, dead_codes, matrix, read, summary
from support.gcs_pages import GcsPages, gcs_pages
from support.google_login import credentials
from support.images import picture
from support.media_jobs import PHOTO, write_photos

from bulkembed.emulator.batch_settings import BatchSettings
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

BY_URI = (
    "--vertexai", "--vertex-project", "p", "--vertex-location", "global", *PHOTO,
    "--media-by-uri",
)  # fmt: skip
BATCH = ("--mode", "batch", "--batch-poll", "0.1s")
LARGE = 300_000


@dataclasses.dataclass(frozen=True)
class Cloud:
    """A bucket, and a service that reads it."""

    bucket: Path
    store: GcsPages
    server: EmulatorServer
    source: Path

    def embed(self, output: Path, *args: object) -> Ended:
        """Run a job."""
        bucket = ("--batch-bucket", self.bucket) if "batch" in args else ()
        return media_jobs.embed(self.server.url, self.source, output, *BY_URI, *args, *bucket)


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    # A process keeps its connection to a bucket, and each test has another server.
    bucket = tmp_path / f"buckets/{secrets.token_hex(4)}"
    bucket.mkdir(parents=True)
    root, uris = f"gs://{bucket.name}", []
    for number in range(6):
        # More bytes than a header: after the end of a PNG image they do not count.
        (bucket / f"{number}.png").write_bytes(picture(2 * number + 1) + bytes(LARGE))
        uris.append(f"{root}/{number}.png")
    (bucket / "page.png").write_bytes(b"<html>404</html>")
    (bucket / "photo.webp").write_bytes(picture(4, form="WEBP"))
    uris += [f"{root}/{name}" for name in ("page.png", "none.png", "photo.webp", "1.png")]
    settings = BatchSettings(buckets=(("*", str(tmp_path / "buckets")),))
    with (
        credentials(tmp_path) as environ,
        gcs_pages(tmp_path / "buckets") as store,
        EmulatorServer(EmulatorSettings(batch=settings)) as server,
    ):
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
        yield Cloud(bucket, store, server, write_photos(tmp_path / "in/a.parquet", uris))


@pytest.mark.parametrize("mode", [(), pytest.param(BATCH, marks=pytest.mark.faults)])
def test_files_in_a_bucket_are_sent_by_their_uris(
    cloud: Cloud, tmp_path: Path, mode: tuple[object, ...]
) -> None:
    out = tmp_path / "out"
    ended = cloud.embed(out, *mode)
    assert ended.code == 0, ended.err
    assert dead_codes(out) == {6: "unsupported_type", 7: "not_found"}
    table = read(out).sort_by("id")
    assert table["id"].to_pylist() == [0, 1, 2, 3, 4, 5, 8, 9]
    media = table["media"][0].as_py()[0]
    assert (media["mime_type"], media["uri"]) == ("image/png", f"gs://{cloud.bucket.name}/0.png")
    assert media["bytes"] == (cloud.bucket / "0.png").stat().st_size
    stats = cloud.server.stats()
    assert (stats["texts"], stats["texts_paid_twice"]) == (7, 0)
    assert stats["tokens_by_modality"] == {"IMAGE": 258 * 7}
    # The vectors are those of the bytes.
    without = [flag for flag in BY_URI if flag != "--media-by-uri"]
    inline = media_jobs.embed(cloud.server.url, cloud.source, tmp_path / "inline", *without)
    assert inline.code == 0, inline.err
    other = read(tmp_path / "inline").sort_by("id")
    assert np.array_equal(matrix(table), matrix(other))
    assert table["text_hash"][0] != other["text_hash"][0]
    assert table["text_hash"][6] == other["text_hash"][6]


@pytest.mark.faults
@pytest.mark.parametrize("mode", [(), BATCH])
def test_a_file_is_embedded_again_if_and_only_if_it_was_written_again(
    cloud: Cloud, tmp_path: Path, mode: tuple[object, ...]
) -> None:
    out = tmp_path / "out"
    assert cloud.embed(out, *mode).code == 0
    paid = cloud.server.stats()["texts"]
    write_photos(cloud.source, [f"gs://{cloud.bucket.name}/{number}.png" for number in (0, 1, 2)])
    (cloud.bucket / "1.png").write_bytes(picture(99) + bytes(LARGE))
    ended = cloud.embed(out, *mode)
    assert ended.code == 0, ended.err
    assert cloud.server.stats()["texts"] == paid + 1
    assert len(np.unique(matrix(read(out)), axis=0)) == 3
    assert summary(out)["run"]["embedded"] == 3


def test_what_the_service_refuses_costs_its_row(cloud: Cloud, tmp_path: Path) -> None:
    (cloud.bucket / "3.png").write_bytes((cloud.bucket / "3.png").read_bytes()[:40])
    ended = cloud.embed(tmp_path / "out", "--max-dead-letters", 5)
    assert ended.code == 0, ended.err
    codes = dead_codes(tmp_path / "out")
    assert sorted(codes) == [3, 6, 7]
    letters = {
        row["id"]: row["message"] for row in read(tmp_path / "out", "dead_letters").to_pylist()
    }
    assert "Unable to process input image" in letters[3]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        pytest.param((*PHOTO, "--media-by-uri"), "works on Vertex AI only", id="service"),
        pytest.param((*BY_URI, "--max-image-side", 100), "needs the bytes of a file", id="side"),
        pytest.param((*BY_URI, "--long-media", "head"), "needs the bytes of a file", id="long"),
        pytest.param(("--text-column", "photo", "--media-by-uri"), "needs media", id="text"),
    ],
)
def test_options_that_need_bytes_are_refused(
    tmp_path: Path, args: tuple[object, ...], words: str
) -> None:
    source = write_photos(tmp_path / "in/a.parquet", ["gs://bucket/0.png"])
    ended = media_jobs.embed("http://127.0.0.1:9", source, tmp_path / "out", *args)
    assert (ended.code, words in ended.err) == (2, True), ended.err


def test_an_estimate_reads_heads_only(cloud: Cloud) -> None:
    args = (*media_jobs.MODEL, *BY_URI, "--base-url", cloud.server.url)
    ended = bulkembed("estimate", "--input", cloud.source, *args, "--price-usd-per-mtok", 0.2)
    assert ended.code == 0, ended.err
    assert "1,806" in ended.out
    assert cloud.server.stats()["calls"] == 0
