"""Input formats: a table of what is read, and how a file's name and content choose an entry.

To add a format, write a module with the functions `scan` and `read` (see
`input_files.StreamFormat`), and add an entry to `FORMATS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from bulkembed.schemas.inputs import FoundFile
from bulkembed.transforms.inputs import unsupported_files
from bulkembed.transforms.inputs.unsupported_files import Unsupported, rejected


@dataclasses.dataclass(frozen=True, slots=True)
class InputFormat:
    """An entry of the table of formats."""

    name: str
    """The value of `--format`, and of `FoundFile.format`."""
    title: str
    """What messages call it."""
    module: str
    """Its code: an `input_files.StreamFormat`, imported when the first such file is scanned."""
    endings: tuple[str, ...]
    """The last part of file names, in lower case and without the dot."""
    magic: bytes = b""
    """The bytes at `magic_at` of every such file; empty for text formats."""
    magic_at: int = 0
    last_bytes: bytes = b""
    """The end of every such file, if a footer has all that a scan needs. Then its code is an
    `input_files.FooterFormat`."""
    starts: tuple[bytes, ...] = ()
    """Of a text format: the first characters after white space. They identify it in a file that is
    named like a format with magic bytes."""
    has_types: bool = False
    """Whether files declare the types of their columns. The types of others are inferred from
    their values, and a column may have values of several types."""
    may_be_compressed: bool = True
    """Whether files may be compressed as a whole, as in `.jsonl.gz`."""


_JSONL = InputFormat(
    name="jsonl",
    title="JSONL",
    module="bulkembed.transforms.inputs.jsonl",
    endings=("jsonl", "ndjson", "json", "jsonlines", "jl", "ldjson"),
    starts=(b"{", b"["),
)
_PARQUET = InputFormat(
    name="parquet",
    title="Parquet",
    module="bulkembed.transforms.inputs.parquet",
    endings=("parquet", "parq", "pq"),
    magic=b"PAR1",
    last_bytes=b"PAR1",
    has_types=True,
    may_be_compressed=False,
)
_WEBDATASET = InputFormat(
    name="webdataset",
    title="WebDataset",
    module="bulkembed.transforms.inputs.webdataset",
    endings=("tar", "tgz"),
    magic=b"ustar",
    magic_at=257,
)
FORMATS = {known.name: known for known in (_PARQUET, _JSONL, _WEBDATASET)}
"""All input formats, by name."""
STAGED = "staged"
"""The format of rows that bulkembed saves itself, see `staged_rows`; no user's file has it."""


def module_of(format_name: str) -> str:
    """Return the name of the module that reads a format."""
    if format_name == STAGED:
        return "bulkembed.transforms.inputs.staged_rows"
    return FORMATS[format_name].module


@dataclasses.dataclass(frozen=True, slots=True)
class Codec:
    """A compression of whole files."""

    name: str
    ending: str
    magic: tuple[bytes, ...]


_CODECS = (
    Codec("gzip", "gz", (b"\x1f\x8b",)),
    Codec("zstd", "zst", (b"\x28\xb5\x2f\xfd",)),
    Codec("bz2", "bz2", tuple(b"BZh%d" % level for level in range(1, 10))),
)
# fmt: off
_BESIDE_DATA = frozenset((
    "crc", "md5", "sha1", "sha256", "sha512", "sig", "asc", "dvc", "idx", "index", "lock", "meta",
    "log", "bak", "old", "orig", "swp", "tmp", "temp", "part", "partial", "crdownload",
))
"""Endings of files that accompany data files or are unfinished, as in `a.jsonl.crc`."""
# fmt: on


def format_of_name(name: str) -> tuple[InputFormat | None, str | None]:
    """Return the format and the compression that the ending of a file name means; None if none."""
    *_, before, last = ("", "", *name.lower().split("."))
    by_ending = {ending: known for known in FORMATS.values() for ending in known.endings}
    if last in by_ending:
        return (by_ending[last], None) if before or name.startswith(".") else (None, None)
    known = None if last in _BESIDE_DATA else by_ending.get(before)
    codec = next((codec.name for codec in _CODECS if codec.ending == last), None)
    return known, codec if known is None or known.may_be_compressed else None


def known_endings() -> str:
    """Return the names of files that are read, for a message."""
    endings = {known: [f".{ending}" for ending in known.endings[:3]] for known in FORMATS.values()}
    packed = [ending for known in endings if known.may_be_compressed for ending in endings[known]]
    plain = [ending for known in endings for ending in endings[known] if ending not in packed]
    codecs = _listed([f".{codec.ending}" for codec in _CODECS], "or")
    return f"{_listed(plain, 'and')}; {_listed(packed, 'and')}, also with {codecs}"


def known_titles() -> str:
    """Return the names of all formats, for a message: `Parquet or JSONL`."""
    return _listed([known.title for known in FORMATS.values()], "or")


def _listed(words: Sequence[str], last: str) -> str:
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def codec_of(head: bytes) -> str | None:
    """Return how content is compressed, by its first bytes; None if it is not."""
    return next((codec.name for codec in _CODECS if head.startswith(codec.magic)), None)


def format_of(found: FoundFile, head: bytes, *, compression: str | None) -> InputFormat:
    """Return the format of a file's content, which its name may not tell.

    Args:
        found: the file, with the format that its name or `--format` promises.
        head: its first bytes, decompressed.
        compression: how it is compressed; None if it is not.

    Raises:
        InputError: the content is of no known format; says what it is instead, and the cure.
    """
    promised = FORMATS[found.format]
    if not head:
        return promised
    for known in FORMATS.values():
        if known.magic and head.startswith(known.magic, known.magic_at):
            if compression is None or known.may_be_compressed:
                return known
            cure = f"Decompress it: {known.title} has its own compression"
            raise rejected(found, Unsupported(f"a {known.title} file", cure), compression)
    unsupported = unsupported_files.recognize(head)
    if codec_of(head) is not None:
        cure = "It was compressed twice. Decompress it once"
        unsupported = Unsupported(f"{codec_of(head)} data", cure)
    if unsupported is None and promised.magic:
        begin = unsupported_files.without_mark(head)
        for known in FORMATS.values():
            if begin.startswith(known.starts):
                return known
        unsupported = Unsupported(
            f"not a {promised.title} file: it begins with {unsupported_files.shown(begin)}",
            "Replace it with the complete file",
        )
    if unsupported is not None:
        raise rejected(found, unsupported, compression)
    return promised
