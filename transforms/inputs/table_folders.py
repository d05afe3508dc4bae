"""Folders that are tables: a log in them says which of their files count."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import pyarrow.fs as pafs

from bulkembed.schemas.errors import ConfigError
from bulkembed.transforms.inputs.filesystems import file_info

_LOGS = {
    "_delta_log": "a Delta table",
    ".hoodie": "a Hudi table",
    "_spark_metadata": "the output of a Spark stream",
}
_ICEBERG_FOLDER = "metadata"
_ICEBERG = re.compile(r"(?:^|/)metadata/[^/]+\.metadata\.json$")
_PARTITION = re.compile(r".*=.*|data|\d+")
"""Names of folders inside a table: `day=2026-11-27`, Iceberg's `data`, Hudi's `2026/11/27`."""


def refuse_above(
    pattern: str, filesystem: pafs.FileSystem, store: str, folder: str, *, is_listed: bool
) -> None:
    """Raise ConfigError if a folder, or one above it, is a table.

    On a store each look is a request or two: only folders are looked at that may be inside a table,
    and not the folder itself if all that is below it is listed anyway.
    """
    for above in _ways_up(folder, all_of_them=not store):
        if store and is_listed and above == folder:
            continue
        for log, what in _LOGS.items():
            if _is_folder(filesystem, f"{above}/{log}"):
                raise _refused(pattern, above, what)
        metadata = f"{above}/{_ICEBERG_FOLDER}"
        if _is_folder(filesystem, metadata):
            infos = filesystem.get_file_info(pafs.FileSelector(metadata, allow_not_found=True))
            refuse_here(pattern, above, (f"{_ICEBERG_FOLDER}/{info.base_name}" for info in infos))


def refuse_here(pattern: str, folder: str, names: Iterable[str]) -> None:
    """Raise ConfigError if names below a folder, with `/`, are those of a table's log."""
    for name in names:
        parts = name.split("/")
        log = next((place for place, part in enumerate(parts) if part in _LOGS), None)
        if log is not None:
            raise _refused(pattern, "/".join([folder, *parts[:log]]), _LOGS[parts[log]])
        if _ICEBERG.search(name):
            raise _refused(pattern, "/".join([folder, *parts[:-2]]), "an Iceberg table")


def _ways_up(folder: str, *, all_of_them: bool) -> Iterator[str]:
    while folder.strip("/"):
        yield folder
        folder, _, name = folder.rpartition("/")
        if not all_of_them and not _PARTITION.fullmatch(name):
            return


def _is_folder(filesystem: pafs.FileSystem, path: str) -> bool:
    return bool(file_info(filesystem, path).type == pafs.FileType.Directory)


def _refused(pattern: str, folder: str, what: str) -> ConfigError:
    return ConfigError(
        f"--input {pattern}: {folder} is {what}; its log says which files count, and the others "
        "hold rows that were replaced or deleted. Export the rows of the table as Parquet, or read "
        "all of its files with --table-files-as-they-are"
    )
