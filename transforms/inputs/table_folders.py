"""Folders that are tables, in which a log says which files count."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import pyarrow.fs as pafs

from bulkembed.schemas.errors import ConfigError
from bulkembed.transforms.inputs.filesystems import file_info

_LOG_FOLDERS = {
    "_delta_log": "a Delta table",
    ".hoodie": "a Hudi table",
    "_spark_metadata": "the output of a Spark stream",
}
_ICEBERG_FOLDER = "metadata"
_ICEBERG = re.compile(r"(?:^|/)metadata/[^/]+\.metadata\.json$")
_PARTITION = re.compile(r".*=.*|data|\d+")
"""Names of folders inside a table: `day=2026-11-27`, Iceberg's `data`, Hudi's `2026/11/27`."""


def reject_above(
    pattern: str, filesystem: pafs.FileSystem, store: str, folder: str, *, is_listed: bool
) -> None:
    """Raise ConfigError if a folder, or one above it, is a table.

    On a store, a look at a folder costs one or two requests. So only folders that may be inside a
    table are looked at, and not the folder itself if everything below it is listed anyway.

    Args:
        pattern: what `--input` says, for messages.
        filesystem: the file system of the folder.
        store: the URI of the store; empty on a local disk.
        folder: the root of the pattern.
        is_listed: whether everything below the folder is listed.
    """
    for above in _folders_above(folder, only_partitions=bool(store)):
        if store and is_listed and above == folder:
            continue
        for log, what in _LOG_FOLDERS.items():
            if _is_folder(filesystem, f"{above}/{log}"):
                raise _rejected(pattern, above, what)
        metadata = f"{above}/{_ICEBERG_FOLDER}"
        if _is_folder(filesystem, metadata):
            infos = filesystem.get_file_info(pafs.FileSelector(metadata, allow_not_found=True))
            reject_here(pattern, above, (f"{_ICEBERG_FOLDER}/{info.base_name}" for info in infos))


def reject_here(pattern: str, folder: str, names: Iterable[str]) -> None:
    """Raise ConfigError if one of the names below a folder, with `/`, belongs to a table's log."""
    for name in names:
        parts = name.split("/")
        log = next((place for place, part in enumerate(parts) if part in _LOG_FOLDERS), None)
        if log is not None:
            raise _rejected(pattern, "/".join([folder, *parts[:log]]), _LOG_FOLDERS[parts[log]])
        if _ICEBERG.search(name):
            raise _rejected(pattern, "/".join([folder, *parts[:-2]]), "an Iceberg table")


def _folders_above(folder: str, *, only_partitions: bool) -> Iterator[str]:
    while folder.strip("/"):
        yield folder
        folder, _, name = folder.rpartition("/")
        if only_partitions and not _PARTITION.fullmatch(name):
            return


def _is_folder(filesystem: pafs.FileSystem, path: str) -> bool:
    return bool(file_info(filesystem, path).type == pafs.FileType.Directory)


def _rejected(pattern: str, folder: str, what: str) -> ConfigError:
    return ConfigError(
        f"--input {pattern}: {folder} is {what}. Its log says which files count; the other files "
        "have rows that were replaced or deleted. Export the table as Parquet, or read all of its "
        "files with --table-files-as-they-are."
    )
