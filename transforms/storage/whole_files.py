"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import pyarrow as pa
import pyarrow.fs as pafs

from schemas.errors import OutputError

TEMP_PREFIX = ".tmp-"
"""Begins the name of a file that is not yet whole; such a file never counts."""


Content: TypeAlias = bytes | pa.Buffer | Callable[[pa.NativeFile], None]
"""What a file is to hold, or a function that writes it to a stream."""


def write_whole(filesystem: pafs.FileSystem, path: str, content: Content) -> None:
    """Writes a file that no reader ever sees half: temp name, fsync and rename, or one upload.

    On object stores the upload is one PUT, which the store shows whole.  Nothing is ever streamed
    to its final name: an error inside an open stream would publish the half object.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    try:
        if isinstance(filesystem, pafs.LocalFileSystem):
            _rename_into_place(Path(path), content)
        else:
            data = _in_memory(content)
            with filesystem.open_output_stream(path) as stream:
                stream.write(data)
    except OSError as error:
        raise output_error(path, error) from error


def _in_memory(content: Content) -> bytes | pa.Buffer:
    if not callable(content):
        return content
    sink = pa.BufferOutputStream()
    content(sink)
    return sink.getvalue()


def _rename_into_place(path: Path, content: Content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.with_name(f"{TEMP_PREFIX}{secrets.token_hex(4)}-{path.name}")
    try:
        with pa.OSFile(str(temp), "wb") as stream:
            if callable(content):
                content(stream)
            else:
                stream.write(content)
        with temp.open("rb") as written:
            os.fsync(written.fileno())
        temp.replace(path)
    except OSError:
        temp.unlink(missing_ok=True)
        raise


def output_error(path: str, error: OSError) -> OutputError:
    """The error to show for a file that could not be written."""
    cure = {
        errno.ENOSPC: "the disk is full; free some space",
        errno.EDQUOT: "the disk quota is used up",
        errno.EACCES: "no permission to write there",
        errno.EROFS: "it is on a read-only file system",
    }.get(error.errno or 0, error.strerror or str(error))
    return OutputError(
        f"{path}: cannot be written: {cure}; what is committed stays, run the same command again"
    )


def read_bytes(filesystem: pafs.FileSystem, path: str) -> bytes | None:
    """The content of a small file; None where there is none.

    Raises:
        OutputError: it may not be read.
    """
    try:
        with filesystem.open_input_file(path) as stream:
            return bytes(stream.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unreadable(path, error) from error


def list_names(filesystem: pafs.FileSystem, folder: str) -> list[str]:
    """The names of the files of a folder, sorted; empty where there is no folder.

    Raises:
        OutputError: it may not be listed.
    """
    selector = pafs.FileSelector(folder, allow_not_found=True)
    try:
        infos = filesystem.get_file_info(selector)
    except NotADirectoryError:
        return []
    except OSError as error:
        raise _unreadable(folder, error) from error
    return sorted(
        PurePosixPath(info.path).name for info in infos if info.type == pafs.FileType.File
    )


def _unreadable(path: str, error: OSError) -> OutputError:
    reason = "no permission" if isinstance(error, PermissionError) else str(error)
    return OutputError(f"{path}: cannot be read: {reason}")


def delete_files(filesystem: pafs.FileSystem, paths: list[str]) -> None:
    """Deletes files; one that is gone already is no error."""
    for path in paths:
        try:
            filesystem.delete_file(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise output_error(path, error) from error
