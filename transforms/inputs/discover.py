"""Find the input files that the patterns of `--input` name."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.fs as pafs

from bulkembed.schemas.errors import OR_SKIP, ConfigError, InputError
from bulkembed.schemas.inputs import FoundFile
from bulkembed.transforms.core.file_names import native_name, readable_name
from bulkembed.transforms.inputs import table_folders
from bulkembed.transforms.inputs.filesystems import error_line, file_info, locate, open_input
from bulkembed.transforms.inputs.formats import FORMATS, format_of_name, known_endings, known_titles
from bulkembed.transforms.inputs.unsupported_files import name_of_format

_MAGIC = re.compile(r"[*?\[]")


def has_magic(path: str) -> bool:
    """Return whether a path has characters with a meaning in a glob."""
    return _MAGIC.search(path) is not None


@dataclasses.dataclass(frozen=True)
class Glob:
    """A glob, split into the folder where it begins and the pattern below that folder."""

    root: str
    """The leading folders without `*`, `?` or `[`."""
    below: str

    @property
    def max_depth(self) -> int | None:
        """How many folders below the root a match can be; None for any number."""
        parts = self.below.split("/")
        return None if "**" in parts else len(parts) - 1

    def matches(self, name: str) -> bool:
        """Return whether the glob matches a path relative to the root, with `/`."""
        return self._regex.fullmatch(name) is not None

    @property
    def _regex(self) -> re.Pattern[str]:
        return _compile(self.below)


def split_glob(path: str) -> Glob:
    """Split a path that has magic characters."""
    parts = path.split("/")
    first = next(place for place, part in enumerate(parts) if has_magic(part))
    return Glob("/".join(parts[:first]) or "/", "/".join(filter(None, parts[first:])))


def _compile(glob: str) -> re.Pattern[str]:
    """Return a regex for whole relative paths.

    `*`, `?` and `[...]` stay within one folder. `**` alone between slashes is any number of
    folders, including none. At the end, it is every file below.
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
    except re.error:  # A reversed range, [z-a], matches nothing.
        return "(?!)"
    return f"(?!/)[{'^' if negated else ''}{ranges}]"


_STREAMS = ("/dev/stdin", "/dev/fd/", "/proc/")
_OUTPUT_SAMPLES = (
    "vectors/part-0.parquet",
    "vectors/key=value/part-0.parquet",
    "dead_letters/part-0.parquet",
)


@dataclasses.dataclass(frozen=True)
class _Pattern:
    """A pattern on its file system: a file, a folder (`glob` is None), or a glob below `root`."""

    flag: str
    """The flag that it was given with."""
    text: str
    store: str
    root: str
    file: str | None = None
    glob: Glob | None = None

    @property
    def is_local(self) -> bool:
        """Whether the pattern is on a local disk, and not on an object store."""
        return not self.store

    @property
    def filesystem(self) -> pafs.FileSystem:
        return open_input(self.store)

    def matches(self, name: str) -> bool:
        """Return whether the pattern matches a name below the root."""
        folder, _, base = name.rpartition("/")
        if _hidden_folder(folder) is not None:
            return False
        if self.glob is None:
            return not base.startswith((".", "_"))
        return self.glob.matches(name) and (
            not base.startswith((".", "_")) or self._means_hidden(base)
        )

    def _means_hidden(self, base: str) -> bool:
        """Return whether the glob matches a name that begins with . or _.

        `*.jsonl` matches `_a.jsonl`, but `*` alone does not. No glob matches `_SUCCESS`, and a
        leading dot must be written out.
        """
        last = self.glob.below.rpartition("/")[2] if self.glob is not None else ""
        is_data = base.startswith("_") and format_of_name(base)[0] is not None
        return base.startswith(last[:1]) or (is_data and bool(last.strip("*")))


@dataclasses.dataclass(frozen=True, slots=True)
class Listing:
    """The files that patterns match, and what was found next to them."""

    files: tuple[FoundFile, ...]
    ignored: tuple[str, ...] = ()
    """Files, and folders with / at the end, that are where the patterns look, but do not match."""
    unreadable: tuple[InputError, ...] = ()
    """Errors for names that match but are not files: broken links, pipes, sockets."""


def find_input(
    patterns: Sequence[str],
    format: str | None = None,
    output: str | None = None,
    *,
    tables_as_files: bool = False,
    flag: str = "--input",
) -> Listing:
    """Return the files that the patterns match, each once, sorted by name.

    A pattern is a file, a folder (with all folders below it) or a glob. A pattern that is an
    existing path is that path. Names are relative to the pattern's root: a file's folder, the
    folder itself, or the leading folders of a glob without `*`, `?` and `[`.

    In a folder, names that begin with `.` or `_` are ignored, and so are names without an ending of
    a known format. A glob matches `_a.jsonl`, and a file named in full always matches. Where two
    files would get the same name, the later one gets its parent folders' names in front, until its
    name is unique.

    Args:
        patterns: as users write them.
        format: the name of the format of all files, whatever their names are.
        output: where the dataset is written.
        tables_as_files: whether to read all files of a Delta, Hudi or Iceberg table.
        flag: the flag that has the patterns, for messages.

    Raises:
        ConfigError: a pattern matches nothing, or a file of an unknown format, or would match files
            that are written below `output`, or is in a table whose log says which files count.
        InputError: a folder cannot be listed.
    """
    found: dict[tuple[str, str], FoundFile] = {}
    taken: set[str] = set()
    neighbours = _Neighbours(tables_as_files)
    for text in patterns:
        pattern = _resolve(text, flag)
        if output is not None:
            _reject_output(pattern, output)
        for file in _files_of(pattern, format, neighbours):
            if (file.store, file.path) in found:
                continue
            named = dataclasses.replace(file, name=_free_name(file, taken))
            taken.add(named.name)
            found[file.store, file.path] = named
    files = sorted(found.values(), key=lambda file: file.name)
    for file in files:  # Another pattern may match what one ignores.
        neighbours.ignored.pop(file.path, None)
    ignored = sorted(set(neighbours.ignored.values()))
    return Listing(tuple(files), tuple(ignored), tuple(neighbours.unreadable))


def looks_like_data(name: str) -> bool:
    """Return whether an ignored file has the ending of a data file, or is a folder."""
    base = name.rpartition("/")[2]
    known, codec = format_of_name(base)
    return not base or known is not None or codec is not None or name_of_format(base) is not None


@dataclasses.dataclass(slots=True)
class _Neighbours:
    """What is found next to the matching files."""

    tables_as_files: bool
    ignored: dict[str, str] = dataclasses.field(default_factory=dict)
    """Names by paths."""
    unreadable: list[InputError] = dataclasses.field(default_factory=list)
    checked: set[tuple[str, str, bool]] = dataclasses.field(default_factory=set)

    def ignore_file(self, pattern: _Pattern, name: str) -> None:
        """Note a file that does not match, if a user may expect that it does."""
        hidden = _hidden_folder(name.rpartition("/")[0])
        if hidden is not None:
            return self.ignore_folder(pattern, hidden)
        base = name.rpartition("/")[2]
        if pattern.glob is not None and not pattern.glob.matches(name):
            return None
        if not base.startswith((".", "_")) or format_of_name(base)[0] is not None:
            self.ignored[_path(pattern, name)] = name
        return None

    def ignore_folder(self, pattern: _Pattern, name: str) -> None:
        """Note a folder that is not entered: it is hidden, or a glob for files matches it."""
        if pattern.glob is None or pattern.glob.max_depth is None or pattern.glob.matches(name):
            self.ignored[_path(pattern, name)] = f"{name}/"

    def no_file(self, pattern: _Pattern, name: str, path: str, what: str, cure: str) -> None:
        """Note a name that matches, but is not a file."""
        if pattern.matches(name) and format_of_name(path.rpartition("/")[2])[0] is not None:
            message = f"{name} is {what}. {cure}{OR_SKIP}"
            self.unreadable.append(InputError(message, path=path))

    def reject_table_above(self, pattern: _Pattern) -> None:
        """Raise ConfigError if the root of a pattern is a table, or is inside one."""
        key = (pattern.store, pattern.root, pattern.file is None)
        if self.tables_as_files or key in self.checked:
            return
        self.checked.add(key)
        flat = pattern.file is not None or (
            pattern.glob is not None and pattern.glob.max_depth == 0
        )
        table_folders.reject_above(
            pattern.text, pattern.filesystem, pattern.store, pattern.root, is_listed=not flat
        )

    def reject_table_here(self, pattern: _Pattern, folder: str, names: Iterable[str]) -> None:
        """Raise ConfigError if the names below a folder show that it is a table."""
        if not self.tables_as_files:
            table_folders.reject_here(pattern.text, folder, names)


def _resolve(pattern: str, flag: str) -> _Pattern:
    location = locate(pattern)
    store, path = location
    if location.is_local:
        path, pattern = readable_name(path), readable_name(pattern)
    path = path.rstrip("/") or "/"
    info = file_info(open_input(store), path)
    if _is_stream(pattern, path, info):
        raise ConfigError(
            f"{flag} {pattern} is a pipe, a device or another stream, but bulkembed reads its "
            "input more than once. Write it to a file, and name that file."
        )
    if info.type == pafs.FileType.File:
        return _Pattern(flag, pattern, store, path.rpartition("/")[0] or "/", file=path)
    if info.type == pafs.FileType.Directory:
        return _Pattern(flag, pattern, store, path)
    if has_magic(path):
        glob = split_glob(path)
        return _Pattern(flag, pattern, store, glob.root, glob=glob)
    raise ConfigError(f"{flag} {pattern}: no such file or folder{_contents(store, path)}")


def _is_stream(pattern: str, path: str, info: pafs.FileInfo) -> bool:
    """Return whether a path can be read only once, such as standard input or `<(command)`."""
    if pattern == "-":
        return bool(info.type == pafs.FileType.NotFound)
    named = path.startswith(_STREAMS) and info.type != pafs.FileType.Directory
    return bool(info.type == pafs.FileType.Unknown) or named


def _contents(store: str, path: str) -> str:
    """Return a sentence with the names in the nearest folder that exists, to end a message."""
    filesystem = open_input(store)
    while (parent := path.rpartition("/")[0]) and parent != path:
        path = parent
        if file_info(filesystem, path).type != pafs.FileType.Directory:
            continue
        names = sorted(info.base_name for info in _list(filesystem, path, recursive=False))
        more = f" and {len(names) - 8:,} more" if len(names) > 8 else ""
        return f". {path} has {', '.join(names[:8]) + more if names else 'no files'}."
    return ""


def _files_of(
    pattern: _Pattern, format: str | None, neighbours: _Neighbours
) -> Iterator[FoundFile]:
    """Yield the pattern's files, by name."""
    neighbours.reject_table_above(pattern)
    if pattern.file is not None:
        infos = [file_info(pattern.filesystem, pattern.file)]
    else:
        depth = pattern.glob.max_depth if pattern.glob is not None else None
        infos = sorted(_walk(pattern, depth, neighbours), key=lambda info: info.path)
    files = [file for info in infos if (file := _found(pattern, info, format)) is not None]
    if pattern.file is None:
        taken = {file.path for file in files}
        for info in infos:
            if info.path not in taken:
                neighbours.ignored[info.path] = _relative(pattern.root, info.path)
    if not files and not neighbours.unreadable:
        raise ConfigError(_no_files(pattern, [info.base_name for info in infos]))
    yield from files


def _no_files(pattern: _Pattern, names: Sequence[str]) -> str:
    what = f"{pattern.flag} {pattern.text}: "
    if pattern.glob is None:
        others = sorted({other for name in names if (other := name_of_format(name)) is not None})
        found = f" It has {' and '.join(others)} files, which are not supported." if others else ""
        return (
            f"{what}no input files in this folder.{found} Input files are {known_titles()}, by "
            f"their names: {known_endings()}. Use --format to read files with other names."
        )
    return (
        f"{what}no file matches. Names that begin with . or _ are ignored, and * matches within "
        f"one folder{_contents(pattern.store, pattern.root + '/x') or '.'}"
    )


def _found(pattern: _Pattern, info: pafs.FileInfo, format: str | None) -> FoundFile | None:
    named, codec = format_of_name(info.base_name)
    known = named if format is None else FORMATS[format]
    if known is None:
        if pattern.file is None and pattern.glob is None:
            return None
        raise ConfigError(_unknown_format(pattern, info))
    return FoundFile(
        path=info.path,
        name=_relative(pattern.root, info.path),
        size_bytes=info.size,
        mtime_ns=info.mtime_ns or 0,
        format=known.name,
        compression=codec if known.may_be_compressed else None,
        store=pattern.store,
    )


def _unknown_format(pattern: _Pattern, info: pafs.FileInfo) -> str:
    end = ", or choose an --input that does not match this file." if pattern.glob else "."
    other = name_of_format(info.base_name)
    if other is not None:
        return f"{info.path}: {other} is not supported. Convert the file to {known_titles()}{end}"
    flags = " or ".join(f"--format {name}" for name in FORMATS)
    return (
        f"{info.path}: the format is unknown, since the name does not end with one of "
        f"{known_endings()}. Use {flags}{end}"
    )


def _hidden_folder(folder: str) -> str | None:
    """Return the first folder of a path whose name begins with . or _; None if none does."""
    parts = folder.split("/")
    for place, part in enumerate(parts):
        if part.startswith((".", "_")):
            return "/".join(parts[: place + 1])
    return None


def _path(pattern: _Pattern, name: str) -> str:
    return f"{pattern.root.rstrip('/')}/{name}"


def _relative(root: str, path: str) -> str:
    return path.removeprefix(root.rstrip("/") + "/")


def _walk(pattern: _Pattern, depth: int | None, neighbours: _Neighbours) -> Iterator[pafs.FileInfo]:
    """Yield the files below the root that match.

    A store lists all folders at once. On a disk, folders are listed one by one, so that ignored
    folders cost nothing, and a link to a folder above does not lead to an endless loop.
    """
    if not pattern.is_local:
        infos = _list(pattern.filesystem, pattern.root, recursive=depth != 0)
        names = [_relative(pattern.root, info.path) for info in infos]
        neighbours.reject_table_here(pattern, pattern.root, names)
        for info, name in zip(infos, names, strict=True):
            if _is_file(info) and pattern.matches(name):
                yield info
            elif _is_file(info):
                neighbours.ignore_file(pattern, name)
            elif pattern.glob is not None and pattern.glob.matches(name):
                neighbours.ignore_folder(pattern, name)
        return
    folders: list[tuple[str, frozenset[str]]] = [(pattern.root, frozenset())]
    while folders:
        folder, above = folders.pop()
        real = os.path.realpath(native_name(folder))
        if real in above:
            continue
        infos = _list(pattern.filesystem, folder, recursive=False)
        parent, _, last = folder.rpartition("/")
        neighbours.reject_table_here(
            pattern, parent, (f"{last}/{info.base_name}" for info in infos)
        )
        _note_dangling(pattern, folder, infos, neighbours)
        for info in infos:
            name = _relative(pattern.root, info.path)
            if _is_file(info) and pattern.matches(name):
                yield info
            elif _is_file(info):
                neighbours.ignore_file(pattern, name)
            elif info.type != pafs.FileType.Directory:
                what, cure = "a pipe, a socket or a device", "Write it to a file"
                neighbours.no_file(pattern, name, info.path, what, cure)
            elif depth is not None and name.count("/") >= depth:
                if pattern.glob is not None and pattern.glob.matches(name):
                    neighbours.ignore_folder(pattern, name)
            elif info.base_name.startswith((".", "_")):
                neighbours.ignore_folder(pattern, name)
            else:
                folders.append((info.path, above | {real}))


def _note_dangling(
    pattern: _Pattern, folder: str, infos: Sequence[pafs.FileInfo], neighbours: _Neighbours
) -> None:
    """Note broken links, which a listing does not contain."""
    if not os.path.isdir(native_name(folder)):  # noqa: PTH112 - a missing folder is not listed
        return
    listed = {info.base_name for info in infos}
    names = map(readable_name, os.listdir(native_name(folder)))  # noqa: PTH208 - names only
    for base in sorted(set(names) - listed):
        path = f"{folder.rstrip('/')}/{base}"
        if not os.path.islink(native_name(path)):  # noqa: PTH114 - as above
            continue
        what = "a link to a missing file"
        cure = "Fetch the file (`git annex get`, `dvc pull`), remove the link"
        neighbours.no_file(pattern, _relative(pattern.root, path), path, what, cure)


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


def _reject_output(pattern: _Pattern, output: str) -> None:
    """Raise ConfigError if a pattern would match files that are written below `output`."""
    location = locate(output)
    # The options after `?` do not change which store it is.
    stores = {store.partition("?")[0] for store in (location.store, pattern.store)}
    if len(stores) > 1 or pattern.file is not None:
        return
    root, base = pattern.root, location.path.rstrip("/")
    if location.is_local:
        root, base = os.path.realpath(native_name(root)), os.path.realpath(location.path)
    for sample in _OUTPUT_SAMPLES:
        written = f"{base}/{sample}"
        inside = f"{root}/".startswith(written.rpartition("/")[0] + "/")
        name = _relative(root, written)
        if inside or (name != written and pattern.matches(name)):
            raise ConfigError(
                f"--output {output} is inside --input {pattern.text}: the next run would read the "
                "files that this one writes. Choose an output outside the input."
            )
