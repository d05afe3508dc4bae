"""Job files and results in a bucket, below one folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.fs as pafs

from bulkembed.schemas.errors import (
    CallError,
    CallRejected,
    ConfigError,
    JobRejected,
    Unavailable,
)
from bulkembed.transforms.clients.complete_files import written
from bulkembed.transforms.clients.remote_jobs import MISSING_FILE
from bulkembed.transforms.clients.retry_policy import Retries, RetryPolicy
from bulkembed.transforms.inputs.filesystems import error_line, is_on_local_disk, open_filesystem

PIECE_BYTES = 8 << 20
"""How much is read and written at a time."""
SCHEME = "gs://"
_CURE = "Check --batch-bucket, and that your account may read and write there."


class BucketFiles:
    """Copies files to a folder of a bucket and back.

    Args:
        bucket: gs://BUCKET/FOLDER. Or a local folder, which a server on this machine knows as the
            bucket of that name.
        retry: how calls of the bucket are repeated.

    Raises:
        ConfigError: it is neither.
    """

    def __init__(self, bucket: str, retry: RetryPolicy) -> None:
        self._filesystem, root = open_filesystem(bucket)
        self._root, self._retry = root.rstrip("/"), retry
        self.is_local = is_on_local_disk(self._filesystem)
        if not self.is_local and self._filesystem.type_name != "gcs":
            raise ConfigError(f"--batch-bucket {bucket}: use gs://BUCKET or gs://BUCKET/FOLDER.")
        self._uri = SCHEME + (Path(root).name if self.is_local else self._root)

    def uri(self, *names: str) -> str:
        """Return the URI of a file below the folder, as the service takes it."""
        return "/".join((self._uri, *names))

    def upload(self, source: Path, uri: str) -> None:
        """Copy a local file to the bucket.

        Raises:
            CallError: the bucket rejects it, or keeps failing.
        """
        retries, path = Retries(self._retry), self._path(uri)
        retries.run(lambda: self._write(source, path, retries))

    def download(self, folder: str, target: Path) -> None:
        """Copy the lines of all files of a folder to a local file, in the order of their names.

        Raises:
            CallRejected: with the code MISSING_FILE, if there are none.
            CallError: the bucket rejects it, or keeps failing.
            OutputError: the local file cannot be written.
        """
        infos = self._results(folder)
        with written(target) as part, part.open("wb") as file:
            for info in infos:
                self._append(info, file)

    def delete(self, uri: str) -> None:
        """Delete a file, or all files of a folder; it may not exist.

        Raises:
            CallError: the bucket rejects it, or keeps failing.
        """
        path = self._path(uri)
        self._retry.run(lambda: self._delete(path))

    def _delete(self, path: str) -> None:
        with self._errors(), contextlib.suppress(FileNotFoundError):
            kind = self._filesystem.get_file_info(path).type
            if kind is pafs.FileType.File:
                self._filesystem.delete_file(path)
            elif kind is pafs.FileType.Directory:
                self._filesystem.delete_dir(path)

    def _path(self, uri: str) -> str:
        """Return the path of a URI, which must be below the folder."""
        below = uri.removeprefix(f"{self._uri}/").strip("/")
        if below in (uri, "") or ".." in below.split("/"):
            raise CallRejected(
                f"{uri} is not below {self._uri}. Use the --batch-bucket with which the job was "
                "created.",
                code="bucket",
            )
        return f"{self._root}/{below}"

    def _write(self, source: Path, path: str, retries: Retries) -> None:
        with self._errors():
            if self.is_local:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            size = source.stat().st_size
            try:
                with source.open("rb") as file, self._filesystem.open_output_stream(path) as stream:
                    while piece := file.read(PIECE_BYTES):
                        stream.write(piece)
                        retries.reached(file.tell())
                stored = self._filesystem.get_file_info(path).size
                if stored != size:
                    raise OSError(f"the bucket holds {stored or 0:,} of {size:,} bytes")
            except BaseException:
                # An error inside an open stream publishes what was written.
                with contextlib.suppress(OSError, pa.ArrowException):
                    self._filesystem.delete_file(path)
                raise

    def _results(self, folder: str) -> list[pafs.FileInfo]:
        """Return the files with results in a folder, by name."""
        selector = pafs.FileSelector(self._path(folder), recursive=True, allow_not_found=True)
        infos = self._retry.run(lambda: self._list(selector))
        files = sorted((info for info in infos if info.is_file), key=lambda info: str(info.path))
        if not files:
            raise CallRejected(f"there are no results below {folder}", code=MISSING_FILE)
        # How the service names its files is not documented.
        return [info for info in files if info.path.endswith(".jsonl")] or files

    def _list(self, selector: pafs.FileSelector) -> list[pafs.FileInfo]:
        with self._errors():
            infos: list[pafs.FileInfo] = self._filesystem.get_file_info(selector)
            return infos

    def _append(self, info: pafs.FileInfo, file: IO[bytes]) -> None:
        """Append a file of the bucket to a local one, with a newline at its end."""
        retries, start = Retries(self._retry), file.tell()
        retries.run(lambda: self._copy(info, file, start, retries))

    def _copy(self, info: pafs.FileInfo, file: IO[bytes], start: int, retries: Retries) -> None:
        """Write a file of the bucket to a local one, from a position on."""
        file.seek(start)
        file.truncate()
        last = b"\n"
        for piece in self._pieces(info):
            file.write(piece)
            last = piece[-1:]
            retries.reached(file.tell())
        if file.tell() - start != info.size:
            raise Unavailable(
                f"{file.tell() - start:,} of {info.size:,} bytes of {info.path} were read",
                code="storage",
            )
        if last != b"\n":
            file.write(b"\n")

    def _pieces(self, info: pafs.FileInfo) -> Iterator[bytes]:
        with self._errors():
            stream = self._filesystem.open_input_stream(info.path, compression=None)
        with stream:
            while True:
                with self._errors():
                    piece = stream.read(PIECE_BYTES)
                if not piece:
                    return
                yield piece

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise CallErrors in place of errors of the bucket."""
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise self._call_error(error) from error

    def _call_error(self, error: Exception) -> CallError:
        line = error_line(error).rstrip(".")
        if isinstance(error, PermissionError) or self._has_no_bucket(error):
            return JobRejected(f"{self._uri}: {line}. {_CURE}", code="bucket")
        return Unavailable(f"{self._uri}: {line}", code="storage")

    def _has_no_bucket(self, error: Exception) -> bool:
        if not isinstance(error, FileNotFoundError):
            return False
        with contextlib.suppress(OSError, pa.ArrowException):
            info = self._filesystem.get_file_info(self._root.partition("/")[0])
            return bool(info.type is pafs.FileType.NotFound)
        return False
