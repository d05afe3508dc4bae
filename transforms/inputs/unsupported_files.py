"""Files that are not read: what they hold, by their first bytes or their names, and the cure."""

from __future__ import annotations

import codecs
import dataclasses
import json
import re

from bulkembed.schemas.errors import OR_SKIP, InputError
from bulkembed.schemas.inputs import FoundFile

_DECODER = json.JSONDecoder()

NAMES = {
    "csv": "CSV",
    "tsv": "TSV",
    "avro": "Avro",
    "orc": "ORC",
    "arrow": "Arrow IPC",
    "arrows": "Arrow IPC",
    "ipc": "Arrow IPC",
    "feather": "Feather",
    "lance": "Lance",
    "xls": "Excel",
    "xlsx": "Excel",
    "xml": "XML",
    "npy": "NumPy",
    "npz": "NumPy",
    "pkl": "pickle",
    "h5": "HDF5",
    "hdf5": "HDF5",
    "db": "SQLite",
    "sqlite": "SQLite",
    "zip": "zip",
    "xz": "xz",
    "lz4": "lz4",
    "7z": "7z",
    "rar": "rar",
}
"""Formats of data, archives and compressions that are not supported, by the ending of a name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Unsupported:
    """Content that bulkembed does not read: what it is, and what to do about it."""

    what: str
    cure: str


_EXPORT = "Export it as Parquet or JSONL"
_ARRAY_CURE = "Write one object per line: `jq -c '.[]' FILE > NEW`"
_UNPACK = "Unpack it, and name the files in it"
_ARROW = (
    "Write it as Parquet: pyarrow.parquet.write_table(pyarrow.ipc.open_file(FILE).read_all(), NEW)"
)
_MAGIC = (
    (b"PARE", "a Parquet file with an encrypted footer", "Write it without encryption"),
    (b"\xfd7zXZ\x00", "xz data", "Decompress it with `xz -d`, or compress it with zstd"),
    (b"\x04\x22\x4d\x18", "lz4 data", "Decompress it with `lz4 -d`"),
    (b"\x02\x21\x4c\x18", "lz4 data", "Decompress it with `lz4 -d`"),
    (b"\xff\x06\x00\x00sNaPpY", "snappy data", "Decompress it"),
    (b"LZIP", "lzip data", "Decompress it with `lzip -d`"),
    (b"\x1f\x9d", "data compressed with `compress`", "Decompress it with `gzip -d`"),
    (b"PK\x03\x04", "a zip archive or an Excel file", _UNPACK),
    (b"PK\x05\x06", "an empty zip archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a rar archive", _UNPACK),
    (b"ORC", "an ORC file", "Write it as Parquet: pyarrow.orc reads it"),
    (b"Obj\x01", "an Avro file", _EXPORT),
    (b"ARROW1", "an Arrow IPC (Feather) file", _ARROW),
    (b"FEA1", "a Feather file, version 1", _EXPORT),
    (b"\xff\xff\xff\xff", "an Arrow IPC stream, or other binary data", _EXPORT),
    (b"SEQ\x06", "a Hadoop SequenceFile", _EXPORT),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", _EXPORT),
    (b"\x93NUMPY", "a NumPy array", _EXPORT),
    (b"SQLite format 3\x00", "an SQLite database", _EXPORT),
    (b"%PDF-", "a PDF", "Extract its text into JSONL"),
    (b"version https://git-lfs", "a Git LFS pointer", "Fetch the file: `git lfs pull`"),
    (b"/annex/objects/", "a git-annex pointer", "Fetch the file: `git annex get`"),
    (b"\x00\x00\xfe\xff", "UTF-32 text", "Convert it: `iconv -f UTF-32 -t UTF-8`"),
    (b"\xff\xfe\x00\x00", "UTF-32 text", "Convert it: `iconv -f UTF-32 -t UTF-8`"),
    (b"\xff\xfe", "UTF-16 text", "Convert it: `iconv -f UTF-16 -t UTF-8`"),
    (b"\xfe\xff", "UTF-16 text", "Convert it: `iconv -f UTF-16 -t UTF-8`"),
)
_WIDE = (
    (re.compile(rb"[\t\r\n -~]\x00\x00\x00[\t\r\n -~]\x00\x00\x00"), "UTF-32LE"),
    (re.compile(rb"\x00\x00\x00[\t\r\n -~]\x00\x00\x00[\t\r\n -~]"), "UTF-32BE"),
    (re.compile(rb"[\t\r\n -~]\x00[\t\r\n -~]\x00"), "UTF-16LE"),
    (re.compile(rb"\x00[\t\r\n -~]\x00[\t\r\n -~]"), "UTF-16BE"),
)
_TAG = re.compile(rb"<(!doctype|!--|\?xml|[a-z][a-z0-9:]*[\s/>])", re.IGNORECASE)
_HTML = re.compile(rb"<(!doctype\s+html|html|head|body|title)\b", re.IGNORECASE)
_STORE_ERROR = re.compile(rb"<Error>.*?<Code>(\w+)</Code>", re.DOTALL)


def name_of_format(file_name: str) -> str | None:
    """Return the unsupported format that the ending of a name stands for; None if it is not one."""
    words = file_name.lower().split(".")
    if words[-1] in ("gz", "bz2", "zst"):
        words.pop()
    return NAMES.get(words[-1]) if len(words) > 1 else None


def rejected(
    found: FoundFile, unsupported: Unsupported, compression: str | None = None
) -> InputError:
    """Return the error for a file whose content is not read."""
    packed = f" compressed with {compression}" if compression is not None else ""
    return InputError(
        f"{found.name} is {unsupported.what}{packed}. {unsupported.cure}{OR_SKIP}",
        path=found.path,
    )


def recognize(head: bytes) -> Unsupported | None:
    """Return what a file is that begins like this; None if it may be a text format."""
    for magic, what, cure in _MAGIC:
        if head.startswith(magic):
            return Unsupported(what, cure)
    if head and not head.strip(b"\x00"):
        cure = "Replace it with the complete file: writing it was interrupted"
        return Unsupported("a file of NUL bytes", cure)
    for wide, name in _WIDE:
        if wide.match(head):
            return Unsupported(f"{name} text", f"Convert it: `iconv -f {name} -t UTF-8`")
    begin = without_mark(head)
    return _markup(begin) if _TAG.match(begin) else None


def json_not_in_lines(head: bytes, *, is_whole: bool) -> Unsupported | None:
    """Return what a file is that begins with JSON, but has not one object per line."""
    begin = without_mark(head)
    if begin.startswith(b"["):
        return _array(begin)
    if begin.startswith(b"{"):
        return _spread_object(begin, is_whole=is_whole)
    return None


def lines_without_objects(head: bytes) -> Unsupported:
    """Return what a file may be in which not one line is a JSON object."""
    begin = without_mark(head)
    line = begin.split(b"\n", 1)[0].rstrip(b"\r")
    if re.match(rb"\[\s*\{", begin):
        return Unsupported("JSON arrays, one per line", _ARRAY_CURE)
    if begin.startswith(b"["):
        cure = "Write objects that have the columns' names as keys"
        return Unsupported("lines of JSON lists", cure)
    if begin.startswith(b"{"):
        return _broken_objects(begin)
    if b"\x00" in head or _is_binary(head):
        return Unsupported(f"binary data that begins with {shown(begin)}", _EXPORT)
    for separator, kind in (("\t", "TSV"), (",", "CSV"), (";", "CSV"), ("|", "CSV")):
        if separator.encode() in line:
            call = f"pandas.read_csv(FILE, sep={separator!r}).to_parquet(NEW)"
            what = f"text that looks like {kind}, which is not supported: {shown(line)}"
            return Unsupported(what, f"Write it as Parquet or JSONL, for example with {call}")
    what = f"text without a JSON object: {shown(line)}"
    return Unsupported(what, "Write one JSON object per line")


def without_mark(head: bytes) -> bytes:
    """Return the bytes after a byte order mark and white space."""
    return head.removeprefix(codecs.BOM_UTF8).lstrip(b" \t\r\n\x1e")


def shown(data: bytes) -> str:
    """Return the beginning of some bytes for a message, in ASCII."""
    return ascii(data[:40].decode("utf-8", "replace")) + ("..." if len(data) > 40 else "")


def _markup(begin: bytes) -> Unsupported:
    error = _STORE_ERROR.search(begin)
    if error is not None:
        code = error[1].decode("ascii", "replace")
        return Unsupported(f"the error page of an object store ({code})", "Download the file again")
    if _HTML.search(begin[:2000]):
        return Unsupported(
            "an HTML page", "A server sent it instead of the file. Download the file again"
        )
    return Unsupported("XML", _EXPORT)


def _array(begin: bytes) -> Unsupported | None:
    """Return what a JSON array is; None for lines of which only the first one is a list."""
    first, _, others = begin.partition(b"\n")
    if others.strip() and _end_of_value(first, is_whole=True) == len(first.rstrip()):
        return None
    return Unsupported("a JSON array", _ARRAY_CURE)


def _spread_object(begin: bytes, *, is_whole: bool) -> Unsupported | None:
    """Return what an object over several lines is; None for one object per line."""
    end = _end_of_value(begin, is_whole=is_whole)
    if end is None or b"\n" not in begin[:end].strip():
        return None
    return Unsupported(
        "JSON with objects over several lines", "Write one object per line: `jq -c . FILE > NEW`"
    )


def _end_of_value(begin: bytes, *, is_whole: bool) -> int | None:
    """Return the minimum length of the first JSON value; None if it is not JSON."""
    text = begin.decode("latin-1")  # One character a byte.
    try:
        return _DECODER.raw_decode(text)[1]
    except json.JSONDecodeError as error:
        # For an unfinished string or word, the error gives the position where it begins.
        unfinished = error.pos >= len(text) - 8 or error.msg.startswith("Unterminated string")
        return len(text) if unfinished and not is_whole else None
    except (ValueError, RecursionError):
        return None


def _broken_objects(begin: bytes) -> Unsupported:
    end = _end_of_value(begin, is_whole=True)
    if end is not None and begin[end:].lstrip().startswith(b","):
        cure = "Write one object per line, without commas"
        return Unsupported("JSON objects with commas between them", cure)
    if re.match(rb"\{\s*'", begin):
        return Unsupported(
            "a file of Python dicts, not JSON", "Write them with json.dumps, one per line"
        )
    return Unsupported(
        f"broken JSON that begins with {shown(begin)}", "Write one complete object per line"
    )


def _is_binary(head: bytes) -> bool:
    controls = sum(byte < 32 and byte not in b"\t\n\r\x0b\x0c\x1e" for byte in head[:1000])
    return controls > len(head[:1000]) / 20
