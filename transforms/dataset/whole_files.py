"""Files that appear whole or not at all."""

from __future__ import annotations

import concurrent.futures
import errno
import functools
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
import pyarrow.fs as pafs

from bulkembed.schemas.errors import BulkEmbedError, OutputError
from bulkembed.transforms.inputs.filesystems import error_line

REPAIR = "run `bulkembed verify --repair OUT`, and then the same command again"
"""The cure for damaged files of a dataset, as the end of a sentence."""
NO_PERMISSION = "no permission: let this user read and write the dataset"
WRONG_KIND = "a folder is there in place of a file, or a file in place of a folder"
_WRONG_KIND = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY)
TEMP_PREFIX = ".tmp-"
"""Begins the name of a file that is not yet whole; such a file never counts."""
DELETE_THREADS = 8
UPLOADS = 3
"""Tries of a file that is not in the store as it was sent; the SDK's own tries are within each."""


Content: TypeAlias = bytes | pa.Buffer | Callable[[pa.NativeFile], None]
"""What a file is to hold, or a function that writes it to a stream."""
LastLook: TypeAlias = Callable[[], None]
"""Raises what keeps a file, which is ready, from getting its name."""
_Put: TypeAlias = Callable[[pafs.FileSystem, str, bytes | pa.Buffer], None]


def write_whole(
    filesystem: pafs.FileSystem,
    path: str,
    content: Content,
    *,
    empty_is_none: bool = False,
    last_look: LastLook | None = None,
) -> int:
    """Writes a file that no reader ever sees half: temp name, fsync and rename, or one upload.

    S3 and Google's store show an upload whole when it ends, or not at all.  Azure's would show an
    empty file first, as pyarrow writes it: there the upload has a temporary name, and the store
    copies it, but where readers take an empty file for none, which saves 7 requests.  Nothing is
    ever streamed to its final name: an error inside an open stream would publish the half object.
    What a store holds is then asked for, and must have the right size.

    Args:
        filesystem: where the file is to be.
        path: its final name.
        content: what it is to hold.
        empty_is_none: whether readers take an empty file for none.
        last_look: called as late as can be: right before the rename, or before each upload.

    Returns:
        How many bytes the file has.

    Raises:
        OutputError: the disk is full, the folder cannot be written, or a store does not keep what
            it is given.
    """
    look = last_look or _no_look
    try:
        if isinstance(filesystem, pafs.LocalFileSystem):
            return _rename_into_place(Path(path), content, look)
        data = _in_memory(content)
        is_shown_empty = filesystem.type_name == "abfs" and not empty_is_none
        _store(_copy_into_place if is_shown_empty else _upload, filesystem, path, data, look)
        return len(data)
    except (OSError, pa.ArrowException) as error:
        raise output_error(path, error) from error


def _no_look() -> None:
    """Let every file get its name."""


def _store(
    put: _Put, filesystem: pafs.FileSystem, path: str, data: bytes | pa.Buffer, look: LastLook
) -> None:
    """Uploads until the store holds as many bytes as the file has.

    Arrow calls an upload to Google's store done though the store's answer has another checksum.
    """
    held: int | None = None
    for left in reversed(range(UPLOADS)):
        look()  # Not while the stream is open: an error there publishes what it holds.
        try:
            put(filesystem, path, data)
        except FileNotFoundError:  # So says Google's store of an upload that it knows no more.
            if not left:
                raise
            continue
        held = filesystem.get_file_info(path).size
        if held == len(data):
            return
    raise OSError(f"of its {len(data):,} bytes the store holds {held or 0:,}")


def _upload(filesystem: pafs.FileSystem, path: str, data: bytes | pa.Buffer) -> None:
    with filesystem.open_output_stream(path) as stream:
        stream.write(data)


def _copy_into_place(filesystem: pafs.FileSystem, path: str, data: bytes | pa.Buffer) -> None:
    folder, _, name = path.rpartition("/")
    temp = f"{folder}/{_temp_name(name)}"
    _upload(filesystem, temp, data)
    filesystem.copy_file(temp, path)
    filesystem.delete_file(temp)


def _temp_name(name: str) -> str:
    return f"{TEMP_PREFIX}{secrets.token_hex(4)}-{name}"


def _in_memory(content: Content) -> bytes | pa.Buffer:
    if not callable(content):
        return content
    sink = pa.BufferOutputStream()
    content(sink)
    return sink.getvalue()


def _rename_into_place(path: Path, content: Content, look: LastLook) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.with_name(_temp_name(path.name))
    try:
        with pa.OSFile(str(temp), "wb") as stream:
            if callable(content):
                content(stream)
            else:
                stream.write(content)
        with temp.open("rb") as written:
            os.fsync(written.fileno())
            size = os.fstat(written.fileno()).st_size
        look()
        temp.replace(path)
        return size
    except (OSError, BulkEmbedError):
        temp.unlink(missing_ok=True)
        raise


def output_error(path: str, error: Exception) -> OutputError:
    """The error to show for a file that could not be written."""
    number = error.errno if isinstance(error, OSError) else None
    cure = {
        errno.ENOSPC: "the disk is full; free some space",
        errno.EDQUOT: "the disk quota is used up",
        errno.EACCES: "no permission to write there",
        errno.EROFS: "it is on a read-only file system",
        **dict.fromkeys(_WRONG_KIND, WRONG_KIND),
    }.get(number or 0) or (getattr(error, "strerror", None) or error_line(error))
    next_step = REPAIR if number in _WRONG_KIND else "run the same command again"
    return OutputError(f"{path}: cannot be written: {cure}; what is committed stays; {next_step}")


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
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def is_file(filesystem: pafs.FileSystem, path: str) -> bool:
    """Return whether there is a file at a path.

    Raises:
        OutputError: the file system does not say.
    """
    try:
        return bool(filesystem.get_file_info(path).type == pafs.FileType.File)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def list_names(filesystem: pafs.FileSystem, folder: str) -> list[str]:
    """The names of the files of a folder, sorted; empty where there is no folder.

    Raises:
        OutputError: it may not be listed.
    """
    return sorted(file.base_name for file in list_files(filesystem, folder))


def list_files(filesystem: pafs.FileSystem, folder: str) -> list[pafs.FileInfo]:
    """The files of a folder, each with size and time; a store is asked page by page.

    Raises:
        OutputError: it may not be listed.
    """
    selector = pafs.FileSelector(folder, allow_not_found=True)
    try:
        infos = filesystem.get_file_info(selector)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(folder, error) from error
    return [info for info in infos if info.type == pafs.FileType.File]


def _unreadable(path: str, error: Exception) -> OutputError:
    if isinstance(error, PermissionError):
        reason = NO_PERMISSION
    elif _is_wrong_kind(error):
        reason = f"{WRONG_KIND}; {REPAIR}"
    else:
        reason = error_line(error)
    return OutputError(f"{path}: cannot be read: {reason}")


def _is_wrong_kind(error: Exception) -> bool:
    # Arrow gives no number where it is asked to open a folder.
    number = error.errno if isinstance(error, OSError) else None
    return number in _WRONG_KIND or "is a directory" in str(error)


def delete_files(filesystem: pafs.FileSystem, paths: Sequence[str]) -> None:
    """Deletes files, on a store several at a time; one that is gone already is no error."""
    if isinstance(filesystem, pafs.LocalFileSystem) or len(paths) < 2:
        for path in paths:
            _delete_file(filesystem, path)
        return
    with concurrent.futures.ThreadPoolExecutor(DELETE_THREADS) as pool:
        list(pool.map(functools.partial(_delete_file, filesystem), paths))


def _delete_file(filesystem: pafs.FileSystem, path: str) -> None:
    try:
        filesystem.delete_file(path)
    except FileNotFoundError:
        return
    except (OSError, pa.ArrowException) as error:
        raise output_error(path, error) from error
