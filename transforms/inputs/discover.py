"""Which files the patterns of `--input` mean."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.fs as pafs

from bulkembed.schemas.errors import OR_SKIP, ConfigError, InputError
from bulkembed.schemas.inputs import FileFormat, FoundFile
from bulkembed.transforms.core.file_names import native_name, readable_name
from bulkembed.transforms.inputs import table_folders
from bulkembed.transforms.inputs.filesystems import error_line, file_info, locate, open_input

_MAGIC = re.compile(r"[*?\[]")


def has_magic(path: str) -> bool:
    """Whether a path has characters that a glob gives a meaning to."""
    return _MAGIC.search(path) is not None


@dataclasses.dataclass(frozen=True)
class Glob:
    """A glob taken apart: the folder that it begins in, and the pattern below that folder."""

    root: str
    """The longest run of whole folders without `*`, `?` or `[`."""
    below: str

    @property
    def max_depth(self) -> int | None:
        """How many folders deep a match can lie below the root; None for any."""
        parts = self.below.split("/")
        return None if "**" in parts else len(parts) - 1

    def matches(self, name: str) -> bool:
        """Whether a path relative to the root, with `/`, is matched."""
        return self._regex.fullmatch(name) is not None

    @property
    def _regex(self) -> re.Pattern[str]:
        return _compile(self.below)


def split_glob(path: str) -> Glob:
    """The root and the rest of a path that has magic characters."""
    parts = path.split("/")
    first = next(place for place, part in enumerate(parts) if has_magic(part))
    return Glob("/".join(parts[:first]) or "/", "/".join(filter(None, parts[first:])))


def _compile(glob: str) -> re.Pattern[str]:
    """A regex over whole relative paths; re keeps compiled ones, so this is cheap to repeat.

    `*`, `?` and `[...]` stay within one folder; `**` alone between slashes is any number of
    folders, none included; at the end it is every file below.
    """
    parts = glob.split("/")
    regex = ""
    for place, part in enumerate(parts):
        last = place == len(parts) - 1
        if part == "**":
            regex += ".+" if last else "(?:[^/]+/)*"
        else:
            regex += _segment(part) + ("" if last else "/")
    return re.compile(regex, re.DOTALL)


def _segment(part: str) -> str:
    regex, place = "", 0
    while place < len(part):
        piece, place = _next_piece(part, place)
        regex += piece
    return regex


def _next_piece(part: str, place: int) -> tuple[str, int]:
    char = part[place]
    if char == "*":
        return "[^/]*", place + 1
    if char == "?":
        return "[^/]", place + 1
    # The first character of a class may itself be `]`.
    end = part.find("]", place + 2 + (part[place + 1 : place + 2] == "!")) if char == "[" else -1
    if end < 0:
        return re.escape(char), place + 1
    return _char_class(part[place + 1 : end]), end + 1


def _char_class(inside: str) -> str:
    negated = inside.startswith("!")
    chars = inside[1:] if negated else inside
    ranges = re.sub(r"([\\\[\]^&~|])", r"\\\1", chars).replace("--", r"-\-")
    try:
        re.compile(f"[{ranges}]")
    except re.error:  # A range that runs backwards, [z-a], matches nothing.
        return "(?!)"
    return f"(?!/)[{'^' if negated else ''}{ranges}]"


_FORMATS = {
    **dict.fromkeys(("parquet", "parq", "pq"), FileFormat.PARQUET),
    **dict.fromkeys(("jsonl", "ndjson", "json", "jsonlines", "jl", "ldjson"), FileFormat.JSONL),
}
_CODECS = {"gz": "gzip", "bz2": "bz2", "zst": "zstd"}
_KNOWN = ".parquet, .parq, .pq, and .jsonl, .ndjson or .json, plain or with .gz, .zst or .bz2"
# fmt: off
_BESIDE_DATA = frozenset((
    "crc", "md5", "sha1", "sha256", "sha512", "sig", "asc", "dvc", "idx", "index", "lock", "meta",
    "log", "bak", "old", "orig", "swp", "tmp", "temp", "part", "partial", "crdownload",
))
"""Last words of names of files that lie beside data or are not finished, as in `a.jsonl.crc`."""
_OTHER_DATA = frozenset((
    "csv", "tsv", "avro", "orc", "arrow", "arrows", "feather", "ipc", "lance", "xls", "xlsx", "xml",
    "zip", "tar", "tgz", "gz", "bz2", "zst", "xz", "lz4", "7z", "rar", "npy", "npz", "pkl", "h5",
    "hdf5", "db", "sqlite",
))
# fmt: on
_STREAMS = ("/dev/stdin", "/dev/fd/", "/proc/")
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
        return open_input(self.store)

    def takes(self, name: str) -> bool:
        """Whether the name below the root is one that the pattern means."""
        folder, _, base = name.rpartition("/")
        if _hidden_folder(folder) is not None:
            return False
        if self.glob is None:
            return not base.startswith((".", "_"))
        return self.glob.matches(name) and (
            not base.startswith((".", "_")) or self._means_hidden(base)
        )

    def _means_hidden(self, base: str) -> bool:
        """Whether a glob means a name that begins with . or _, as `*.jsonl` means `_a.jsonl`.

        `*` alone does not, no glob means `_SUCCESS`, and a dot has to be written out.
        """
        last = self.glob.below.rpartition("/")[2] if self.glob is not None else ""
        is_data = base.startswith("_") and _kind(base)[0] is not None
        return base.startswith(last[:1]) or (is_data and bool(last.strip("*")))


@dataclasses.dataclass(frozen=True, slots=True)
class Listing:
    """What patterns match: files to read, and what lies beside them."""

    files: tuple[FoundFile, ...]
    passed_over: tuple[str, ...] = ()
    """Files and folders (with / at the end) that lie where the patterns look, but are not taken."""
    unreadable: tuple[InputError, ...] = ()
    """Errors for names of data that are not files: broken links, pipes, sockets."""


def find_files(
    patterns: Sequence[str], format: FileFormat | None = None, output: str | None = None
) -> list[FoundFile]:
    """Return the files alone; see `find_input`."""
    return list(find_input(patterns, format, output).files)


def find_input(
    patterns: Sequence[str],
    format: FileFormat | None = None,
    output: str | None = None,
    *,
    tables_as_files: bool = False,
) -> Listing:
    """Return the files that the patterns mean, each once, sorted by name.

    A pattern is a file, a folder (with all folders below it) or a glob; one that names an existing
    path literally is that path.  Names are relative to the pattern's root: a file's folder, the
    folder itself, or a glob's longest beginning without `*`, `?` and `[`.  In a folder, names that
    begin with `.` or `_` are passed over, and so are those whose ending does not say that they are
    data; a glob takes `_a.jsonl`, and a file named outright is always taken.  Where patterns give
    two files the same name, the later one gets its parent folders' names before it until it has a
    name of its own, so it is known by another name than it has alone.

    Args:
        patterns: of `--input`.
        format: take every file matched for that format.
        output: where the dataset is written.
        tables_as_files: read the files of a Delta, Hudi or Iceberg table as if they were not one.

    Raises:
        ConfigError: a pattern matches nothing, or a file of an unknown kind, or would match what
            is written below `output`, or is in a table whose log says which files count.
        InputError: a folder cannot be listed.
    """
    found: dict[tuple[str, str], FoundFile] = {}
    taken: set[str] = set()
    beside = _Beside(tables_as_files)
    for pattern in patterns:
        place = _resolve(pattern)
        if output is not None:
            _refuse_output(place, output)
        for file in _files_of(place, format, beside):
            if (file.store, file.path) in found:
                continue
            named = dataclasses.replace(file, name=_free_name(file, taken))
            taken.add(named.name)
            found[file.store, file.path] = named
    files = sorted(found.values(), key=lambda file: file.name)
    for file in files:  # What one pattern leaves out another may name.
        beside.passed_over.pop(file.path, None)
    passed_over = sorted(set(beside.passed_over.values()))
    return Listing(tuple(files), tuple(passed_over), tuple(beside.unreadable))


def looks_like_data(name: str) -> bool:
    """Return whether the ending of a name that was passed over says that it holds data."""
    base = name.rpartition("/")[2]
    return not base or _kind(base)[0] is not None or base.lower().rpartition(".")[2] in _OTHER_DATA


@dataclasses.dataclass(slots=True)
class _Beside:
    """What lies beside the files that are taken."""

    tables_as_files: bool
    passed_over: dict[str, str] = dataclasses.field(default_factory=dict)
    """Names by paths."""
    unreadable: list[InputError] = dataclasses.field(default_factory=list)
    looked_at: set[tuple[str, str, bool]] = dataclasses.field(default_factory=set)

    def pass_over(self, place: _Place, name: str) -> None:
        """Note a file that is not taken, if somebody may take it for input."""
        hidden = _hidden_folder(name.rpartition("/")[0])
        if hidden is not None:
            return self.pass_folder_over(place, hidden)
        base = name.rpartition("/")[2]
        if place.glob is not None and not place.glob.matches(name):
            return None
        if not base.startswith((".", "_")) or _kind(base)[0] is not None:
            self.passed_over[_path(place, name)] = name
        return None

    def pass_folder_over(self, place: _Place, name: str) -> None:
        """Note a folder that is not entered: hidden, or matched by a glob that means files."""
        if place.glob is None or place.glob.max_depth is None or place.glob.matches(name):
            self.passed_over[_path(place, name)] = f"{name}/"

    def no_file(self, place: _Place, name: str, path: str, what: str, cure: str) -> None:
        """Note a name that the pattern means and that is no file."""
        if place.takes(name) and _kind(path.rpartition("/")[2])[0] is not None:
            message = f"{name} is {what}; {cure}{OR_SKIP}"
            self.unreadable.append(InputError(message, path=path))

    def refuse_table_above(self, place: _Place) -> None:
        """Raise ConfigError if the root of a pattern is, or is in, a table."""
        key = (place.store, place.root, place.file is None)
        if self.tables_as_files or key in self.looked_at:
            return
        self.looked_at.add(key)
        flat = place.file is not None or (place.glob is not None and place.glob.max_depth == 0)
        table_folders.refuse_above(
            place.pattern, place.filesystem, place.store, place.root, is_listed=not flat
        )

    def refuse_table_here(self, place: _Place, folder: str, names: Iterable[str]) -> None:
        """Raise ConfigError if what lies below a folder makes it a table."""
        if not self.tables_as_files:
            table_folders.refuse_here(place.pattern, folder, names)


def _resolve(pattern: str) -> _Place:
    store, path = locate(pattern)
    if not store:
        path, pattern = readable_name(path), readable_name(pattern)
    path = path.rstrip("/") or "/"
    info = file_info(open_input(store), path)
    if _is_stream(pattern, path, info):
        raise ConfigError(
            f"--input {pattern} is a pipe, a device or another stream; bulkembed reads the input "
            "more than once, to plan and to embed: write it to a file, and name that file"
        )
    if info.type == pafs.FileType.File:
        return _Place(pattern, store, path.rpartition("/")[0] or "/", file=path)
    if info.type == pafs.FileType.Directory:
        return _Place(pattern, store, path)
    if has_magic(path):
        glob = split_glob(path)
        return _Place(pattern, store, glob.root, glob=glob)
    raise ConfigError(f"--input {pattern}: there is no such file or folder{_hint(store, path)}")


def _is_stream(pattern: str, path: str, info: pafs.FileInfo) -> bool:
    """Return whether a path can be read only once: standard input, or a shell's `<(command)`."""
    if pattern == "-":
        return bool(info.type == pafs.FileType.NotFound)
    named = path.startswith(_STREAMS) and info.type != pafs.FileType.Directory
    return bool(info.type == pafs.FileType.Unknown) or named


def _hint(store: str, path: str) -> str:
    """What stands in the nearest folder that exists, for a message."""
    filesystem = open_input(store)
    while (parent := path.rpartition("/")[0]) and parent != path:
        path = parent
        if file_info(filesystem, path).type != pafs.FileType.Directory:
            continue
        names = sorted(info.base_name for info in _list(filesystem, path, recursive=False))
        more = ", ..." if len(names) > 8 else ""
        return f"; {path} holds {', '.join(names[:8]) + more if names else 'nothing'}"
    return ""


def _files_of(place: _Place, format: FileFormat | None, beside: _Beside) -> Iterator[FoundFile]:
    """The pattern's files, by name."""
    beside.refuse_table_above(place)
    if place.file is not None:
        infos = [file_info(place.filesystem, place.file)]
    else:
        depth = place.glob.max_depth if place.glob is not None else None
        infos = sorted(_walk(place, depth, beside), key=lambda info: info.path)
    files = [file for info in infos if (file := _found(place, info, format)) is not None]
    if place.file is None:
        taken = {file.path for file in files}
        for info in infos:
            if info.path not in taken:
                beside.passed_over[info.path] = _relative(place.root, info.path)
    if not files and not beside.unreadable:
        raise ConfigError(_nothing(place))
    yield from files


def _nothing(place: _Place) -> str:
    what = f"--input {place.pattern}: "
    if place.glob is None:
        return what + f"the folder has no input files ({_KNOWN}); --format takes files of any name"
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
    """Return the format and the compression that a name promises; the content decides later."""
    *_, before, last = ("", "", *name.lower().split("."))
    if last in _FORMATS:
        return (_FORMATS[last], None) if before or name.startswith(".") else (None, None)
    kind = None if last in _BESIDE_DATA else _FORMATS.get(before)
    return kind, _CODECS.get(last)


def _hidden_folder(folder: str) -> str | None:
    """Return the first folder on the way whose name begins with . or _; None if none does."""
    parts = folder.split("/")
    for place, part in enumerate(parts):
        if part.startswith((".", "_")):
            return "/".join(parts[: place + 1])
    return None


def _path(place: _Place, name: str) -> str:
    return f"{place.root.rstrip('/')}/{name}"


def _relative(root: str, path: str) -> str:
    return path.removeprefix(root.rstrip("/") + "/")


def _walk(place: _Place, depth: int | None, beside: _Beside) -> Iterator[pafs.FileInfo]:
    """The files below the root that the pattern takes.

    A store answers for all folders at once; on disks folders are gone through one by one, so that
    those passed over cost nothing and a link back to a folder above does not go on for ever.
    """
    if place.store:
        infos = _list(place.filesystem, place.root, recursive=depth != 0)
        names = [_relative(place.root, info.path) for info in infos]
        beside.refuse_table_here(place, place.root, names)
        for info, name in zip(infos, names, strict=True):
            if _is_file(info) and place.takes(name):
                yield info
            elif _is_file(info):
                beside.pass_over(place, name)
            elif place.glob is not None and place.glob.matches(name):
                beside.pass_folder_over(place, name)
        return
    folders: list[tuple[str, frozenset[str]]] = [(place.root, frozenset())]
    while folders:
        folder, above = folders.pop()
        real = os.path.realpath(native_name(folder))
        if real in above:
            continue
        infos = _list(place.filesystem, folder, recursive=False)
        parent, _, last = folder.rpartition("/")
        beside.refuse_table_here(place, parent, (f"{last}/{info.base_name}" for info in infos))
        _note_dangling(place, folder, infos, beside)
        for info in infos:
            name = _relative(place.root, info.path)
            if _is_file(info) and place.takes(name):
                yield info
            elif _is_file(info):
                beside.pass_over(place, name)
            elif info.type != pafs.FileType.Directory:
                what, cure = "a pipe, a socket or a device", "write it to a file"
                beside.no_file(place, name, info.path, what, cure)
            elif depth is not None and name.count("/") >= depth:
                if place.glob is not None and place.glob.matches(name):
                    beside.pass_folder_over(place, name)
            elif info.base_name.startswith((".", "_")):
                beside.pass_folder_over(place, name)
            else:
                folders.append((info.path, above | {real}))


def _note_dangling(
    place: _Place, folder: str, infos: Sequence[pafs.FileInfo], beside: _Beside
) -> None:
    """Note broken links, which a listing leaves out."""
    if not os.path.isdir(native_name(folder)):  # noqa: PTH112 - what is missing is not listed
        return
    listed = {info.base_name for info in infos}
    there = map(readable_name, os.listdir(native_name(folder)))  # noqa: PTH208 - names only
    for base in sorted(set(there) - listed):
        path = f"{folder.rstrip('/')}/{base}"
        if not os.path.islink(native_name(path)):  # noqa: PTH114 - as above
            continue
        what = "a link to a file that is not there"
        cure = "fetch the file (`git annex get`, `dvc pull`) or remove the link"
        beside.no_file(place, _relative(place.root, path), path, what, cure)


def _is_file(info: pafs.FileInfo) -> bool:
    return bool(info.type == pafs.FileType.File)


def _list(filesystem: pafs.FileSystem, folder: str, *, recursive: bool) -> list[pafs.FileInfo]:
    selector = pafs.FileSelector(folder, recursive=recursive, allow_not_found=True)
    try:
        return list(filesystem.get_file_info(selector))
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"the folder {folder} cannot be listed: {error_line(error)}", path=folder
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
    root = place.root if store else os.path.realpath(native_name(place.root))
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
