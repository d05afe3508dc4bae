"""Which files the patterns of `--input` mean."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.fs as pafs

from schemas.errors import ConfigError, InputError
from schemas.inputs import FileFormat, FoundFile
from transforms.storage.filesystems import file_info, locate, open_store
from transforms.storage.patterns import Glob, has_magic, split_glob
from transforms.storage.store_errors import said

_FORMATS = {
    ".parquet": FileFormat.PARQUET,
    ".jsonl": FileFormat.JSONL,
    ".ndjson": FileFormat.JSONL,
}
_CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
_KNOWN = ".parquet, and .jsonl or .ndjson, plain or with .gz, .zst or .bz2"
_OUTPUT_SAMPLES = ("vectors/part-0.parquet", "dead_letters/part-0.parquet")


@dataclasses.dataclass(frozen=True)
class _Place:
    """A pattern with its file system: a file, a folder (`glob` None), or a glob below `root`."""

    pattern: str
    store: str
    root: str
    file: str | None = None
    glob: Glob | None = None

    @property
    def filesystem(self) -> pafs.FileSystem:
        return open_store(self.store)

    def takes(self, name: str) -> bool:
        """Whether the name below the root is one that the pattern means."""
        if any(part.startswith((".", "_")) for part in name.split("/")):
            return False
        return self.glob is None or self.glob.matches(name)


def find_files(
    patterns: Sequence[str], format: FileFormat | None = None, output: str | None = None
) -> list[FoundFile]:
    """The files that the patterns mean, each once, sorted by name.

    A pattern is a file, a folder (with all folders below it) or a glob; one that names an existing
    path literally is that path.  Names are relative to the pattern's root: a file's folder, the
    folder itself, or a glob's longest beginning without `*`, `?` and `[`.  Below the root, names
    that begin with `.` or `_` are passed over; a file named outright is not.  Where patterns give
    two files the same name, the later one gets its parent folders' names before it until it has a
    name of its own, so it is known by another name than it has alone.

    `format` takes every file matched for that format; the compression still goes by the suffix.

    Raises:
        ConfigError: a pattern matches nothing, or a file of an unknown kind, or would match what
            is written below `output`.
        InputError: a folder cannot be listed.
    """
    found: dict[tuple[str, str], FoundFile] = {}
    taken: set[str] = set()
    for pattern in patterns:
        place = _resolve(pattern)
        if output is not None:
            _refuse_output(place, output)
        for file in _files_of(place, format):
            if (file.store, file.path) in found:
                continue
            named = dataclasses.replace(file, name=_free_name(file, taken))
            taken.add(named.name)
            found[file.store, file.path] = named
    return sorted(found.values(), key=lambda file: file.name)


def _resolve(pattern: str) -> _Place:
    store, path = locate(pattern)
    path = path.rstrip("/") or "/"
    info = file_info(open_store(store), path)
    if info.type == pafs.FileType.File:
        return _Place(pattern, store, path.rpartition("/")[0] or "/", file=path)
    if info.type == pafs.FileType.Directory:
        return _Place(pattern, store, path)
    if has_magic(path):
        glob = split_glob(path)
        return _Place(pattern, store, glob.root, glob=glob)
    raise ConfigError(f"--input {pattern}: there is no such file or folder{_hint(store, path)}")


def _hint(store: str, path: str) -> str:
    """What stands in the nearest folder that exists, for a message."""
    filesystem = open_store(store)
    while (parent := path.rpartition("/")[0]) and parent != path:
        path = parent
        if file_info(filesystem, path).type != pafs.FileType.Directory:
            continue
        names = sorted(info.base_name for info in _list(filesystem, path, recursive=False))
        more = ", ..." if len(names) > 8 else ""
        return f"; {path} holds {', '.join(names[:8]) + more if names else 'nothing'}"
    return ""


def _files_of(place: _Place, format: FileFormat | None) -> Iterator[FoundFile]:
    """The pattern's files, by name."""
    if place.file is not None:
        infos = [file_info(place.filesystem, place.file)]
    else:
        depth = place.glob.max_depth if place.glob is not None else None
        infos = sorted(_walk(place, depth), key=lambda info: info.path)
    files = [file for info in infos if (file := _found(place, info, format)) is not None]
    if not files:
        raise ConfigError(_nothing(place))
    yield from files


def _nothing(place: _Place) -> str:
    what = f"--input {place.pattern}: "
    if place.glob is None:
        return what + f"the folder has no input files (known are {_KNOWN}); --format takes others"
    names = "names that begin with . or _ are passed over, and * stays within one folder"
    return what + f"matches no file ({names}){_hint(place.store, place.root + '/x')}"


def _found(place: _Place, info: pafs.FileInfo, format: FileFormat | None) -> FoundFile | None:
    kind, codec = _kind(info.base_name)
    if format is None and kind is None:
        if place.file is None and place.glob is None:
            return None
        raise ConfigError(
            f"{info.path}: the name does not say what the file is (known are {_KNOWN}); "
            "say --format parquet or --format jsonl, or choose a narrower --input"
        )
    kind = format or kind
    assert kind is not None
    return FoundFile(
        path=info.path,
        name=_relative(place.root, info.path),
        size_bytes=info.size,
        mtime_ns=info.mtime_ns or 0,
        format=kind,
        compression=codec if kind is FileFormat.JSONL else None,
        store=place.store,
    )


def _kind(name: str) -> tuple[FileFormat | None, str | None]:
    stem, dot, last = name.lower().rpartition(".")
    codec = _CODECS.get(dot + last)
    if codec is None:
        return _FORMATS.get(dot + last), None
    kind = _FORMATS.get("." + stem.rpartition(".")[2])
    return (kind if kind is FileFormat.JSONL else None), codec


def _relative(root: str, path: str) -> str:
    return path.removeprefix(root.rstrip("/") + "/")


def _walk(place: _Place, depth: int | None) -> Iterator[pafs.FileInfo]:
    """The files below the root that the pattern takes.

    A store answers for all folders at once; on disks folders are gone through one by one, so that
    those passed over cost nothing and a link back to a folder above does not go on for ever.
    """
    if place.store:
        flat = depth == 0
        infos = _list(place.filesystem, place.root, recursive=not flat)
        yield from (i for i in infos if _is_file(i) and place.takes(_relative(place.root, i.path)))
        return
    folders: list[tuple[str, frozenset[str]]] = [(place.root, frozenset())]
    while folders:
        folder, above = folders.pop()
        real = os.path.realpath(folder)
        if real in above:
            continue
        for info in _list(place.filesystem, folder, recursive=False):
            name = _relative(place.root, info.path)
            if _is_file(info) and place.takes(name):
                yield info
            elif _is_open_folder(info) and (depth is None or name.count("/") < depth):
                folders.append((info.path, above | {real}))


def _is_file(info: pafs.FileInfo) -> bool:
    return bool(info.type == pafs.FileType.File)


def _is_open_folder(info: pafs.FileInfo) -> bool:
    return info.type == pafs.FileType.Directory and not info.base_name.startswith((".", "_"))


def _list(filesystem: pafs.FileSystem, folder: str, *, recursive: bool) -> list[pafs.FileInfo]:
    selector = pafs.FileSelector(folder, recursive=recursive, allow_not_found=True)
    try:
        return list(filesystem.get_file_info(selector))
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"the folder {folder} cannot be listed: {said(error)}", path=folder
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"the folder {folder} holds a name that is no UTF-8 ({error.object!r}); rename it",
            path=folder,
        ) from error


def _free_name(file: FoundFile, taken: set[str]) -> str:
    name, above = file.name, file.path.strip("/").removesuffix(file.name).strip("/")
    while name in taken and above:
        above, _, parent = above.rpartition("/")
        name = f"{parent}/{name}"
    # The same path on two stores.
    return f"{file.store.rstrip('/')}/{name}" if name in taken else name


def _refuse_output(place: _Place, output: str) -> None:
    """Raises ConfigError if what is written below `output` would be matched as input."""
    store, path = locate(output)
    # What follows `?` says how the store is reached, not which one it is.
    if store.partition("?")[0] != place.store.partition("?")[0] or place.file is not None:
        return
    root = place.root if store else os.path.realpath(place.root)
    base = path.rstrip("/") if store else os.path.realpath(path)
    for sample in _OUTPUT_SAMPLES:
        written = f"{base}/{sample}"
        inside = f"{root}/".startswith(written.rpartition("/")[0] + "/")
        name = _relative(root, written)
        if inside or (name != written and place.takes(name)):
            raise ConfigError(
                f"--output {output} lies inside --input {place.pattern}: the next run would read "
                "what this one writes; give an output beside the input, not in it"
            )
