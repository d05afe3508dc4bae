"""Local input files under the readable form of their names, which need not be UTF-8."""

from __future__ import annotations

import os
import stat

import pyarrow as pa
import pyarrow.fs as pafs

from transforms.core.file_names import native_name, readable_name


class LocalInput:
    """The part of a local `pyarrow.fs.FileSystem` that input is found and read with.

    Paths are in the readable form of `file_names`.  pyarrow opens names that are no UTF-8 if they
    are given as bytes, but cannot list them.
    """

    def __init__(self) -> None:
        self._local = pafs.LocalFileSystem()

    def get_file_info(self, wanted: str | pafs.FileSelector) -> pafs.FileInfo | list[pafs.FileInfo]:
        """Return what is at a path, or in a folder without its subfolders."""
        if isinstance(wanted, str):
            return self._info(wanted)
        folder = str(wanted.base_dir)
        if _is_plain(folder):
            try:
                infos = list(self._local.get_file_info(wanted))
                if all(_is_plain(info.base_name) for info in infos):
                    return infos
            except UnicodeDecodeError:
                pass  # One of the names is no UTF-8.
        return _listed(folder)

    def open_input_file(self, path: str) -> pa.NativeFile:
        """Open a file for reading at any place."""
        return self._local.open_input_file(_as_bytes(path))

    def open_input_stream(self, path: str, compression: str | None = None) -> pa.NativeFile:
        """Open a file for reading from its beginning."""
        return self._local.open_input_stream(_as_bytes(path), compression=compression)

    def _info(self, path: str) -> pafs.FileInfo:
        if _is_plain(path):
            return self._local.get_file_info(path)
        info = self._local.get_file_info(_as_bytes(path))
        return pafs.FileInfo(path, info.type, mtime_ns=info.mtime_ns, size=info.size)


def _is_plain(path: str) -> bool:
    """Return whether the readable form of a path is the path itself."""
    return readable_name(path) == path == native_name(path)


def _as_bytes(path: str) -> bytes:
    return os.fsencode(native_name(path))


def _listed(folder: str) -> list[pafs.FileInfo]:
    """Return what is in a folder as pyarrow does: links are followed, dangling ones left out."""
    found = []
    with os.scandir(native_name(folder)) as entries:
        for entry in entries:
            try:
                facts = entry.stat()
            except FileNotFoundError:
                continue
            path = f"{folder.rstrip('/')}/{readable_name(entry.name)}"
            if stat.S_ISREG(facts.st_mode):
                kind, size = pafs.FileType.File, facts.st_size
            else:
                is_folder = stat.S_ISDIR(facts.st_mode)
                kind, size = pafs.FileType.Directory if is_folder else pafs.FileType.Unknown, None
            found.append(pafs.FileInfo(path, kind, mtime_ns=facts.st_mtime_ns, size=size))
    return found
