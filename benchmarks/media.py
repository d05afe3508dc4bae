"""Images per second, CPU and peak memory of a job over images of 200 kB, by the form of its input.

    python -m benchmarks.media [--small] [--images 20000] [--only groups-10000,tar]

Exits with 1 if a run needs 600 MB or more. The emulator's prepared answers do not look at the
images, and its process is not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.children import Cost, cost_of
from benchmarks.image_server import serving
from benchmarks.processes import emulator
from benchmarks.speed import PYTHON

DIM = 768
MAX_MB = 600
IMAGE_BYTES = 200_000
SIDES = (1024, 768)
IMAGES, SMALL_IMAGES = 20_000, 2_000
GROUP_ROWS = 10_000
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""The type of an image in the files of Hugging Face's datasets."""


class Images:
    """Different JPEG files of about 200 kB: one photo-like picture, with a number as comment."""

    def __init__(self) -> None:
        random = np.random.default_rng(1)
        coarse = random.integers(0, 256, (96, 128, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize(SIDES, Image.Resampling.BICUBIC))
        self._head, self._rest = b"", b""
        for noise in range(2, 60):
            pixels = smooth + random.normal(0, noise, smooth.shape)
            data = io.BytesIO()
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(data, "JPEG", quality=80)
            if data.tell() >= IMAGE_BYTES:
                break
        self._head, self._rest = data.getvalue()[:2], data.getvalue()[2:]

    def image(self, number: int) -> bytes:
        """Return the file of that number."""
        comment = f"{number:012d}".encode()
        size = (len(comment) + 2).to_bytes(2, "big")
        return b"".join((self._head, b"\xff\xfe", size, comment, self._rest))


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """An input, and the part of its rows."""

    path: Path
    content: str = "image:image"
    options: tuple[object, ...] = ()


def parquet(
    folder: Path,
    images: Images,
    count: int,
    *,
    group_rows: int,
    dictionary: bool = True,
    write_batch_size: int = 1024,
) -> Source:
    """Write a Parquet file with the bytes in structs, by default as pyarrow does."""
    path = folder / "images.parquet"
    schema = pa.schema([("id", pa.int64()), ("image", STRUCT)])
    columns: bool | list[str] = True if dictionary else ["id"]
    with pq.ParquetWriter(
        path, schema, use_dictionary=columns, write_batch_size=write_batch_size
    ) as writer:
        for first in range(0, count, group_rows):
            numbers = range(first, min(count, first + group_rows))
            data = pa.array(map(images.image, numbers), pa.binary())
            names = pa.array([f"{number}.jpg" for number in numbers])
            column = pa.StructArray.from_arrays([data, names], fields=list(STRUCT))
            writer.write_table(pa.table([pa.array(numbers), column], schema), group_rows)
    return Source(path)


def large_groups(folder: Path, images: Images, count: int) -> Source:
    """Row groups of 10,000 images."""
    return parquet(folder, images, count, group_rows=GROUP_ROWS)


def large_groups_plain(folder: Path, images: Images, count: int) -> Source:
    """The same without a dictionary for the images."""
    return parquet(folder, images, count, group_rows=GROUP_ROWS, dictionary=False)


def small_pages(folder: Path, images: Images, count: int) -> Source:
    """Row groups of 10,000 images, with pages of 10, and without a dictionary for them."""
    return parquet(
        folder, images, count, group_rows=GROUP_ROWS, dictionary=False, write_batch_size=10
    )


def small_groups(folder: Path, images: Images, count: int) -> Source:
    """Row groups of 100 images, as `datasets` writes them."""
    return parquet(folder, images, count, group_rows=100)


def _places(folder: Path, places: Iterator[str]) -> Source:
    path = folder / "images.parquet"
    names = pa.array(list(places))
    pq.write_table(pa.table({"id": range(len(names)), "image": names}), path)
    return Source(path, options=("--allow-private-addresses",))


def paths(folder: Path, images: Images, count: int) -> Source:
    """Files of the local disk, by relative paths."""
    (folder / "img").mkdir()
    for number in range(count):
        (folder / f"img/{number}.jpg").write_bytes(images.image(number))
    return _places(folder, (f"img/{number}.jpg" for number in range(count)))


def urls(folder: Path, _: Images, count: int, url: str) -> Source:
    """URLs of a local web server."""
    return _places(folder, (f"{url}/{number}.jpg" for number in range(count)))


def tar(folder: Path, images: Images, count: int) -> Source:
    """A WebDataset shard."""
    path = folder / "images.tar"
    with tarfile.open(path, "w") as archive:
        for number in range(count):
            data = images.image(number)
            member = tarfile.TarInfo(f"{number:08d}.jpg")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return Source(path, "image:jpg", ("--id-column", "__key__"))


FORMS: dict[str, Callable[..., Source]] = {
    "groups-10000": large_groups,
    "groups-10000-no-dictionary": large_groups_plain,
    "groups-10000-small-pages": small_pages,
    "groups-100": small_groups,
    "paths": paths,
    "urls": urls,
    "tar": tar,
}


def cost(form: str, images: Images, count: int, url: str) -> Cost:
    """Return the cost of a run over the images in that form."""
    folder = Path(tempfile.mkdtemp(prefix="bench-media-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        servers = (stack.enter_context(serving(images.image)),) if form == "urls" else ()
        source = FORMS[form](folder, images, count, *servers)
        return cost_of([
            PYTHON, "-m", "bulkembed", "run", "--input", source.path, "--output", folder / "out",
            "--base-url", url, "--model", "gemini-embedding-2", "--dim", DIM,
            "--content", source.content, *source.options,
            "--rpm", 0, "--tpm", 0, "--rpd", 0, "--log-level", "error", "--no-report",
        ], {"XDG_CACHE_HOME": str(folder / "cache")})  # fmt: skip


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true", help=f"{SMALL_IMAGES:,} images")
    parser.add_argument("--images", type=int, help="how many images")
    parser.add_argument("--only", default="", help="forms, separated by commas")
    args = parser.parse_args()
    count = args.images or (SMALL_IMAGES if args.small else IMAGES)
    forms = [form for form in FORMS if not args.only or form in args.only.split(",")]
    images = Images()
    title = f"{count:,} images of {len(images.image(0)):,} bytes, {SIDES[0]} x {SIDES[1]} pixels"
    table = Table("input", "images/s", "CPU s / 1,000 images", "peak MB", "read MB", title=title)
    passed = True
    with emulator("--canned", "--latency-ms", 50) as server:
        for form in forms:
            found = cost(form, images, count, server.url)
            passed &= found.peak_mb < MAX_MB
            table.add_row(
                form, f"{count / found.wall_s:,.0f}", f"{1000 * found.cpu_s / count:.2f}",
                f"{found.peak_mb:.0f}", f"{found.read_mb:,.0f}",
            )  # fmt: skip
            print(form, found, file=sys.stderr, flush=True)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    sys.exit(not passed)


if __name__ == "__main__":
    main()
