"""Files that are written atomically: readers see all of a file, or none of it."""

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

from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.stop import RERUN
from bulkembed.transforms.dataset.layout import TEMP_PREFIX
from bulkembed.transforms.inputs.filesystems import error_line, is_on_local_disk

REPAIR = "Run `bulkembed verify --repair OUT`, then rerun the same command."
"""The cure for damaged files of a dataset, a sentence."""
NO_PERMISSION = "no permission. Let this user read and write the dataset"
WRONG_KIND = "there is a folder in place of a file, or a file in place of a folder"
_WRONG_KIND = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY)
DELETE_THREADS = 8
LISTINGS = 10
"""Attempts to list a folder that comes and goes meanwhile."""
UPLOADS = 3
"""Attempts to upload a file that the store does not hold as it was sent, besides the SDK's own."""


FileContent: TypeAlias = bytes | pa.Buffer | Callable[[pa.NativeFile], None]
"""The content of a file, or a function that writes it to a stream."""
OwnershipCheck: TypeAlias = Callable[[], None]
"""Raises an error to stop a complete file from getting its name."""
_Put: TypeAlias = Callable[[pafs.FileSystem, str, bytes | pa.Buffer], None]


def write_atomically(
    filesystem: pafs.FileSystem,
    path: str,
    content: FileContent,
    *,
    ignored_if_empty: bool = False,
    check: OwnershipCheck | None = None,
) -> int:
    """Write a file atomically: by a temporary name, fsync and rename, or by one upload.

    S3 and Google Cloud Storage show an upload when it is complete. Azure would show an empty file
    first, because of how pyarrow writes. There the upload gets a temporary name, and the store
    copies it; if readers ignore empty files, that is not needed and saves 7 requests. Nothing is
    streamed to its final name: an error inside an open stream would publish an incomplete object.
    After an upload the size of the stored object is verified.

    Args:
        filesystem: the file system.
        path: the final name of the file.
        content: the content of the file.
        ignored_if_empty: whether readers ignore an empty file.
        check: called as late as possible: right before the rename, or before each upload.

    Returns:
        The size of the file in bytes.

    Raises:
        OutputError: the disk is full, the folder cannot be written, or a store does not keep the
            content.
    """
    check = check or _pass
    try:
        if is_on_local_disk(filesystem):
            return _rename_into_place(Path(path), content, check)
        data = _in_memory(content)
        is_shown_empty = filesystem.type_name == "abfs" and not ignored_if_empty
        _store(_copy_into_place if is_shown_empty else _upload, filesystem, path, data, check)
        return len(data)
    except (OSError, pa.ArrowException) as error:
        raise output_error(path, error) from error


def _pass() -> None:
    """Raise nothing, so that every file gets its name."""


def _store(
    put: _Put,
    filesystem: pafs.FileSystem,
    path: str,
    data: bytes | pa.Buffer,
    check: OwnershipCheck,
) -> None:
    """Upload until the store holds as many bytes as the file has.

    Arrow calls an upload to Google Cloud Storage complete even if the store's answer has another
    checksum.
    """
    stored: int | None = None
    for attempts_left in reversed(range(UPLOADS)):
        check()  # Not while the stream is open: an error there would publish what was written.
        try:
            put(filesystem, path, data)
        except FileNotFoundError:  # Google Cloud Storage has forgotten the upload.
            if not attempts_left:
                raise
            continue
        stored = filesystem.get_file_info(path).size
        if stored == len(data):
            return
    raise OSError(f"the store holds {stored or 0:,} of its {len(data):,} bytes")


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


def _in_memory(content: FileContent) -> bytes | pa.Buffer:
    if not callable(content):
        return content
    sink = pa.BufferOutputStream()
    content(sink)
    return sink.getvalue()


def _rename_into_place(path: Path, content: FileContent, check: OwnershipCheck) -> int:
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
        check()
        temp.replace(path)
        return size
    except BaseException:
        temp.unlink(missing_ok=True)
        raise


def output_error(path: str, error: Exception) -> OutputError:
    """Return the error for a file that could not be written."""
    number = error.errno if isinstance(error, OSError) else None
    reason = {
        errno.ENOSPC: "the disk is full. Free some space",
        errno.EDQUOT: "the disk quota is used up",
        errno.EACCES: "no permission to write there",
        errno.EROFS: "it is on a read-only file system",
        **dict.fromkeys(_WRONG_KIND, WRONG_KIND),
    }.get(number or 0) or (getattr(error, "strerror", None) or error_line(error))
    cure = REPAIR if number in _WRONG_KIND else RERUN
    return OutputError(f"{path} cannot be written: {reason}. Committed units are kept. {cure}")


def read_bytes(filesystem: pafs.FileSystem, path: str) -> bytes | None:
    """Return the content of a small file; None if there is no such file.

    Raises:
        OutputError: it cannot be read.
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
        OutputError: the file system gives no answer.
    """
    try:
        return bool(filesystem.get_file_info(path).type == pafs.FileType.File)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def list_names(filesystem: pafs.FileSystem, folder: str) -> list[str]:
    """Return the names of the files in a folder, sorted; none if there is no such folder.

    Raises:
        OutputError: it cannot be listed.
    """
    return sorted(file.base_name for file in list_files(filesystem, folder))


def list_files(
    filesystem: pafs.FileSystem, folder: str, *, recursive: bool = False
) -> list[pafs.FileInfo]:
    """Return the files in a folder, each with size and time; a store is listed page by page.

    Args:
        filesystem: the file system.
        folder: the folder; one that does not exist has no files.
        recursive: whether the files in its folders are listed as well.

    Raises:
        OutputError: it cannot be listed.
    """
    selector = pafs.FileSelector(folder, allow_not_found=True, recursive=recursive)
    for attempts_left in reversed(range(LISTINGS)):
        try:
            infos = filesystem.get_file_info(selector)
            break
        except (OSError, pa.ArrowException) as error:
            # Arrow finds no folder, looks again whether there is one, and another process has made
            # it in between.
            if not isinstance(error, FileNotFoundError) or not attempts_left:
                raise _unreadable(folder, error) from error
    return [info for info in infos if info.type == pafs.FileType.File]


def list_below(filesystem: pafs.FileSystem, folder: str) -> dict[str, pafs.FileInfo]:
    """Return the files in a folder and its folders, by their names within it, sorted.

    Raises:
        OutputError: it cannot be listed.
    """
    files = list_files(filesystem, folder, recursive=True)
    start = f"{folder.rstrip('/')}/"
    return dict(sorted((file.path.removeprefix(start), file) for file in files))


def _unreadable(path: str, error: Exception) -> OutputError:
    if isinstance(error, PermissionError):
        reason = NO_PERMISSION
    elif _is_wrong_kind(error):
        reason = f"{WRONG_KIND}. {REPAIR}"
    else:
        reason = error_line(error)
    return OutputError(f"{path} cannot be read: {reason}")


def _is_wrong_kind(error: Exception) -> bool:
    # Arrow gives no number if it is to open a folder.
    number = error.errno if isinstance(error, OSError) else None
    return number in _WRONG_KIND or "is a directory" in str(error)


def delete_files(filesystem: pafs.FileSystem, paths: Sequence[str]) -> None:
    """Delete files, on a store several at a time; a file that is missing is no error."""
    if is_on_local_disk(filesystem) or len(paths) < 2:
        for path in paths:
            _delete_file(filesystem, path)
        return
    with concurrent.futures.ThreadPoolExecutor(DELETE_THREADS) as pool:
        list(pool.map(functools.partial(_delete_file, filesystem), paths))


def _delete_file(filesystem: pafs.FileSystem, path: str) -> None:
    try:
        if is_on_local_disk(filesystem):
            Path(path).unlink()
        else:
            filesystem.delete_file(path)
    except FileNotFoundError:
        return
    except (OSError, pa.ArrowException) as error:
        raise output_error(path, error) from error
