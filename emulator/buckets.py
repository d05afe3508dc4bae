"""Objects of `gs://` buckets, which are in local folders or a local server of that protocol."""

from __future__ import annotations

import datetime as dt
import urllib.parse
from collections.abc import Iterable
from pathlib import Path

import pyarrow.fs as pafs

from bulkembed.emulator.api_errors import invalid
from bulkembed.emulator.files import DiskBytes

_CHUNK = 1 << 20
_PATIENCE = dt.timedelta(seconds=30)
ANY_BUCKET = "*"


class Buckets:
    """Reads and writes objects.

    `places` has pairs of a bucket (`*`: any) and its place: a folder, or the URL of a server. A
    folder of any bucket has a folder for each.
    """

    def __init__(self, places: Iterable[tuple[str, str]]) -> None:
        self._places = dict(places)

    def size(self, uri: str) -> int:
        """Return the bytes of an object; raise ApiError if there is none."""
        filesystem, path = self._find(uri)
        info = filesystem.get_file_info(path)
        if info.type is not pafs.FileType.File:
            raise invalid(f"The Cloud Storage object {uri} is not found.")
        return int(info.size)

    def read(self, uri: str) -> bytes:
        """Return an object; raise ApiError if there is none."""
        self.size(uri)
        filesystem, path = self._find(uri)
        with filesystem.open_input_stream(path, compression=None) as stream:
            return bytes(stream.read())

    def fetch(self, uris: Iterable[str], target: Path) -> None:
        """Copy objects into one local file, each with a line break at its end."""
        with target.open("wb") as file:
            for uri in uris:
                filesystem, path = self._find(uri)
                last = b"\n"
                with filesystem.open_input_stream(path, compression=None) as stream:
                    while piece := stream.read(_CHUNK):
                        file.write(piece)
                        last = piece[-1:]
                file.write(b"" if last == b"\n" else b"\n")

    def put(self, source: Path, uri: str) -> None:
        """Write a local file to an object."""
        filesystem, path = self._find(uri)
        if isinstance(filesystem, pafs.LocalFileSystem):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        data = DiskBytes(source)
        with filesystem.open_output_stream(path, compression=None) as stream:
            for piece in data.pieces(0, data.size):
                stream.write(piece)

    def check(self, uri: str) -> None:
        """Raise ApiError if a URI has no place."""
        self._find(uri)

    def _find(self, uri: str) -> tuple[pafs.FileSystem, str]:
        parts = urllib.parse.urlsplit(uri)
        if parts.scheme != "gs" or not parts.netloc:
            raise invalid(f'"{uri}" is not a Cloud Storage URI: use gs://BUCKET/PATH.')
        bucket, path = parts.netloc, uri.split("://", 1)[1].partition("/")[2]
        place = self._places.get(bucket) or self._places.get(ANY_BUCKET)
        if place is None:
            raise invalid(
                f"The emulator does not know the bucket {bucket}. Use --batch-bucket "
                f"{bucket}=FOLDER, or the URL of a local server."
            )
        if place.startswith(("http://", "https://")):
            url = urllib.parse.urlsplit(place)
            server = pafs.GcsFileSystem(
                anonymous=True, scheme=url.scheme, endpoint_override=url.netloc,
                retry_time_limit=_PATIENCE,
            )  # fmt: skip
            return server, f"{bucket}/{path}"
        folder = Path(place) if bucket in self._places else Path(place) / bucket
        return pafs.LocalFileSystem(), str(folder / path)
