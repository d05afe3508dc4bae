"""Media files on local disks and in stores: where a path or URI is, and its bytes."""

from __future__ import annotations

import errno
import os
import posixpath
import re
from typing import IO

import pyarrow as pa
import pyarrow.fs as pafs

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import BulkEmbedError, ConfigError
from bulkembed.schemas.media import MediaFault
from bulkembed.schemas.secrets import without_credentials
from bulkembed.transforms.core.file_names import readable_name
from bulkembed.transforms.inputs.filesystems import (
    SCHEMES,
    Location,
    error_line,
    locate,
    names_a_host,
    open_input,
    scheme_of,
)

_NONE = "there is no such file"
_MAX_KEY_CHARS = 1024
"""No store accepts a longer key: S3 and Google's count bytes, Azure's counts characters."""
_MAX_ERROR_CHARS = 300
_CHUNK_BYTES = 4 << 20
_DENIED = re.compile(r"denied|forbidden|unauthori[sz]ed|authoriz?ation|\b40[13]\b", re.IGNORECASE)
_NO_BUCKET = re.compile(r"no_?such_?bucket|not exist|not found|\b404\b", re.IGNORECASE)


def located(uri: str, base: Location | None) -> Location:
    """Return the place of a path or URI of a row, without opening anything.

    Args:
        uri: a path, or a URI of a store or a local file.
        base: the folder of relative paths; None is the current one.

    Raises:
        MediaFault: the URI cannot be used, names no file that can exist, or sends a store's
            credentials to another host.
    """
    location = _located(uri, base)
    if "\0" in location.path:
        raise MediaFault(DeadCode.NOT_FOUND, f"{_NONE}: its name has a NUL character")
    if not location.is_local and len(location.path.partition("/")[2]) > _MAX_KEY_CHARS:
        raise MediaFault(DeadCode.NOT_FOUND, f"{_NONE}: its name is too long")
    return location


def _located(uri: str, base: Location | None) -> Location:
    scheme = scheme_of(uri)
    if scheme is None and base is not None and not uri.startswith(("/", "~")):
        return Location(base.store, posixpath.normpath(f"{base.path}/{uri}"))
    if scheme is not None and scheme not in SCHEMES:
        allowed = "a path, http(s)://, file://, s3://, gs://, abfs:// or az://"
        raise MediaFault(DeadCode.FETCH_FAILED, f"{scheme}:// is not supported. Use {allowed}")
    if names_a_host(uri):
        what = "its options name another endpoint, which is not allowed in data"
        raise MediaFault(DeadCode.FORBIDDEN, what)
    try:
        location = locate(uri)
    except ConfigError as error:
        what = error.message.removeprefix(f"{without_credentials(uri)}: ")
        raise MediaFault(DeadCode.FETCH_FAILED, what) from None
    if location.is_local:
        return Location("", readable_name(location.path))
    return location


def read_stored(location: Location, into: IO[bytes], max_bytes: int) -> None:
    """Write the bytes of a file into another one; the store's own client retries.

    Raises:
        MediaFault: there is no file, it may not be read, is too large, or cannot be read.
    """
    try:
        filesystem = open_input(location.store)
        if location.is_local:
            _check_is_file(filesystem.get_file_info(location.path))
        # A file for random access keeps the lock of Python while Google's store answers.
        with filesystem.open_input_stream(location.path, compression=None) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                into.write(chunk)
                if into.tell() > max_bytes:
                    raise too_large(None, max_bytes)
    except (OSError, pa.ArrowException, BulkEmbedError, ValueError) as error:
        if isinstance(error, MediaFault):
            raise
        raise unreadable(error, location) from None


def unreadable(error: Exception, location: Location) -> MediaFault:
    """Return the fault of a file that a disk or a store does not give."""
    if isinstance(error, FileNotFoundError):
        return MediaFault(DeadCode.NOT_FOUND, _NONE)
    line = error_line(error).rstrip(".")
    if location.is_local and isinstance(error, OSError) and error.errno:
        if error.errno == errno.ENAMETOOLONG:
            return MediaFault(DeadCode.NOT_FOUND, f"{_NONE}: its name is too long")
        line = os.strerror(error.errno)  # Without the path, which may say "denied" itself.
    denied = isinstance(error, PermissionError) or _DENIED.search(line) is not None
    code = DeadCode.FORBIDDEN if denied else DeadCode.FETCH_FAILED
    return MediaFault(code, f"it cannot be read: {line[:_MAX_ERROR_CHARS]}")


def version_of(location: Location) -> str:
    """Return the size and the time of a file: another content would have others.

    Where there is no file, or none that may be read, it is the code of the dead letter. Nothing
    of the file is read.

    Raises:
        MediaFault: its store does not answer.
    """
    try:
        info = open_input(location.store).get_file_info(location.path)
        _check_is_file(info)
    except MediaFault as none:
        return str(none.code)
    except (BulkEmbedError, ValueError) as error:
        return str(unreadable(error, location).code)
    except (OSError, pa.ArrowException) as error:
        fault = unreadable(error, location)
        is_down = fault.code is DeadCode.FETCH_FAILED and not location.is_local
        if is_down and _NO_BUCKET.search(fault.what) is None:
            raise fault from None
        return str(fault.code)
    return f"{info.size} {info.mtime_ns}"


def _check_is_file(info: pafs.FileInfo) -> None:
    if info.type == pafs.FileType.NotFound:
        raise MediaFault(DeadCode.NOT_FOUND, _NONE)
    if info.type != pafs.FileType.File:
        what = "a folder" if info.type == pafs.FileType.Directory else "a pipe or a device"
        raise MediaFault(DeadCode.NOT_FOUND, f"it is {what}, not a file")


def too_large(size: int | None, max_bytes: int) -> MediaFault:
    """Return the fault of a file with too many bytes; `size` is None if it was not read whole."""
    has = f"it has {size:,} bytes" if size is not None else f"it has more than {max_bytes:,} bytes"
    return MediaFault(DeadCode.TOO_LARGE, f"{has}, but at most {max_bytes:,} are read")
