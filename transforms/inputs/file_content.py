"""What a file holds, by its first bytes, since its name may be wrong."""

from __future__ import annotations

import dataclasses
import json
import re

from bulkembed.schemas.errors import OR_SKIP, InputError
from bulkembed.schemas.inputs import FileFormat, FoundFile

HEAD_BYTES = 1 << 16
"""How much of a file is looked at."""
_BOM = b"\xef\xbb\xbf"
_CODECS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_BZ2 = re.compile(rb"BZh[1-9]")
_PARQUET = b"PAR1"
_DECODER = json.JSONDecoder()


@dataclasses.dataclass(frozen=True, slots=True)
class Foreign:
    """Content that bulkembed does not read: what it is, and what to do about it."""

    what: str
    cure: str


_EXPORT = "export it as Parquet or JSONL"
_ARRAY_CURE = "write one object per line: `jq -c '.[]' FILE > NEW`"
_UNPACK = "unpack it, and name the files in it"
_ARROW = (
    "write it as Parquet: pyarrow.parquet.write_table(pyarrow.ipc.open_file(FILE).read_all(), NEW)"
)
_MAGIC = (
    (b"PARE", Foreign("a Parquet file with an encrypted footer", "write it without encryption")),
    (b"\xfd7zXZ\x00", Foreign("xz data", "decompress it with `xz -d`, or compress it with zstd")),
    (b"\x04\x22\x4d\x18", Foreign("lz4 data", "decompress it with `lz4 -d`")),
    (b"\x02\x21\x4c\x18", Foreign("lz4 data", "decompress it with `lz4 -d`")),
    (b"\xff\x06\x00\x00sNaPpY", Foreign("snappy data", "decompress it")),
    (b"LZIP", Foreign("lzip data", "decompress it with `lzip -d`")),
    (b"\x1f\x9d", Foreign("data made by `compress`", "decompress it with `gzip -d`")),
    (b"PK\x03\x04", Foreign("a zip archive or an Excel file", _UNPACK)),
    (b"PK\x05\x06", Foreign("an empty zip archive", _UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", Foreign("a 7z archive", _UNPACK)),
    (b"Rar!\x1a\x07", Foreign("a rar archive", _UNPACK)),
    (b"ORC", Foreign("an ORC file", "write it as Parquet: pyarrow.orc reads it")),
    (b"Obj\x01", Foreign("an Avro file", _EXPORT)),
    (b"ARROW1", Foreign("an Arrow IPC (Feather) file", _ARROW)),
    (b"FEA1", Foreign("a Feather file, version 1", _EXPORT)),
    (b"\xff\xff\xff\xff", Foreign("an Arrow IPC stream, or other binary data", _EXPORT)),
    (b"SEQ\x06", Foreign("a Hadoop SequenceFile", _EXPORT)),
    (b"\x89HDF\r\n\x1a\n", Foreign("an HDF5 file", _EXPORT)),
    (b"\x93NUMPY", Foreign("a NumPy array", _EXPORT)),
    (b"SQLite format 3\x00", Foreign("an SQLite database", _EXPORT)),
    (b"%PDF-", Foreign("a PDF", "extract its text into JSONL")),
    (b"version https://git-lfs", Foreign("a Git LFS pointer", "fetch the file: `git lfs pull`")),
    (b"/annex/objects/", Foreign("a git-annex pointer", "fetch the file: `git annex get`")),
    (b"\x00\x00\xfe\xff", Foreign("UTF-32 text", "convert it: `iconv -f UTF-32 -t UTF-8`")),
    (b"\xff\xfe\x00\x00", Foreign("UTF-32 text", "convert it: `iconv -f UTF-32 -t UTF-8`")),
    (b"\xff\xfe", Foreign("UTF-16 text", "convert it: `iconv -f UTF-16 -t UTF-8`")),
    (b"\xfe\xff", Foreign("UTF-16 text", "convert it: `iconv -f UTF-16 -t UTF-8`")),
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


def codec_of(head: bytes) -> str | None:
    """Return how the content is compressed: gzip, zstd or bz2; None for anything else."""
    if _BZ2.match(head):
        return "bz2"
    return next((codec for magic, codec in _CODECS.items() if head.startswith(magic)), None)


def format_of(found: FoundFile, head: bytes, *, compression: str | None, whole: bool) -> FileFormat:
    """Return the format of the content.

    Args:
        found: the file, with the format that its name or the user promises.
        head: its first bytes, decompressed.
        compression: how it was compressed; None if it was not.
        whole: whether these are all of its bytes.

    Raises:
        InputError: it is neither Parquet nor JSONL; says what it is instead, and the cure.
    """
    if head.startswith(_PARQUET) and compression is None:
        return FileFormat.PARQUET
    foreign = _foreign(head, whole=whole)
    if foreign is None and head and found.format is FileFormat.PARQUET:
        begin = _bare(head)
        if not begin.startswith(b"{"):
            foreign = Foreign(
                f"no Parquet file: it begins with {_shown(begin)}", "replace it with the whole file"
            )
    if foreign is not None:
        raise refused(found, foreign, compression)
    return FileFormat.JSONL if head else found.format


def refused(found: FoundFile, foreign: Foreign, compression: str | None = None) -> InputError:
    """Return the error for a file whose content is not read."""
    packed = f" compressed with {compression}" if compression is not None else ""
    return InputError(
        f"{found.name} is {foreign.what}{packed}; {foreign.cure}{OR_SKIP}",
        path=found.path,
    )


def without_rows(head: bytes) -> Foreign:
    """Return what a file may be in which not one line is a JSON object."""
    begin = _bare(head)
    line = begin.split(b"\n", 1)[0].rstrip(b"\r")
    if re.match(rb"\[\s*\{", begin):
        return Foreign("JSON arrays, one per line", _ARRAY_CURE)
    if begin.startswith(b"["):
        return Foreign("lines of JSON lists", "write objects with the columns' names as keys")
    if begin.startswith(b"{"):
        return _broken_objects(begin)
    if b"\x00" in head or _is_binary(head):
        what = f"binary data that begins with {_shown(begin)}"
        return Foreign(what, "give Parquet or JSONL")
    for separator, kind in (("\t", "TSV"), (",", "CSV"), (";", "CSV"), ("|", "CSV")):
        if separator.encode() in line:
            call = f"pandas.read_csv(FILE, sep={separator!r}).to_parquet(NEW)"
            what = f"text that looks like {kind}: {_shown(line)}"
            return Foreign(what, f"write it as Parquet or JSONL, for example with {call}")
    return Foreign(f"text without a JSON object: {_shown(line)}", "write one JSON object per line")


def _foreign(head: bytes, *, whole: bool) -> Foreign | None:
    for magic, foreign in _MAGIC:
        if head.startswith(magic):
            return foreign
    if head.startswith(_PARQUET):
        return Foreign("a Parquet file", "decompress it: Parquet has a compression of its own")
    if codec_of(head) is not None:
        return Foreign(f"{codec_of(head)} data", "it was compressed twice: decompress it once")
    if head[257:262] == b"ustar":
        return Foreign("a tar archive", _UNPACK)
    if head and not head.strip(b"\x00"):
        return Foreign("a file of NUL bytes", "replace it: it was never written to its end")
    for wide, name in _WIDE:
        if wide.match(head):
            return Foreign(f"{name} text", f"convert it: `iconv -f {name} -t UTF-8`")
    begin = _bare(head)
    if _TAG.match(begin):
        return _markup(begin)
    if begin.startswith(b"["):
        return _array(begin)
    if begin.startswith(b"{"):
        return _spread_object(begin, whole=whole)
    return None


def _bare(head: bytes) -> bytes:
    return head.removeprefix(_BOM).lstrip(b" \t\r\n\x1e")


def _markup(begin: bytes) -> Foreign:
    error = _STORE_ERROR.search(begin)
    if error is not None:
        code = error[1].decode("ascii", "replace")
        return Foreign(f"the error page of an object store ({code})", "download the file again")
    if _HTML.search(begin[:2000]):
        return Foreign(
            "an HTML page", "a server sent it in place of the file: download the file again"
        )
    return Foreign("XML", _EXPORT)


def _array(begin: bytes) -> Foreign | None:
    """Return what a JSON array is; None for lines of which only the first one is a list."""
    first, _, others = begin.partition(b"\n")
    if others.strip() and _ends(first, whole=True) == len(first.rstrip()):
        return None
    return Foreign("a JSON array", _ARRAY_CURE)


def _spread_object(begin: bytes, *, whole: bool) -> Foreign | None:
    """Return what an object over several lines is; None for one object per line."""
    end = _ends(begin, whole=whole)
    if end is None or b"\n" not in begin[:end].strip():
        return None
    return Foreign(
        "JSON with objects over several lines", "write one object per line: `jq -c . FILE > NEW`"
    )


def _ends(begin: bytes, *, whole: bool) -> int | None:
    """Return how long the first JSON value is, at least; None if it is no JSON."""
    text = begin.decode("latin-1")  # One character a byte.
    try:
        return _DECODER.raw_decode(text)[1]
    except json.JSONDecodeError as error:
        # For an unfinished string or word, the error gives the position where it begins.
        unfinished = error.pos >= len(text) - 8 or error.msg.startswith("Unterminated string")
        return len(text) if unfinished and not whole else None
    except (ValueError, RecursionError):
        return None


def _broken_objects(begin: bytes) -> Foreign:
    end = _ends(begin, whole=True)
    if end is not None and begin[end:].lstrip().startswith(b","):
        cure = "write one object per line, without commas"
        return Foreign("JSON objects with commas between them", cure)
    if re.match(rb"\{\s*'", begin):
        return Foreign("Python dicts, not JSON", "write them with json.dumps, one per line")
    return Foreign(
        f"broken JSON that begins with {_shown(begin)}", "write a whole object in each line"
    )


def _is_binary(head: bytes) -> bool:
    controls = sum(byte < 32 and byte not in b"\t\n\r\x0b\x0c\x1e" for byte in head[:1000])
    return controls > len(head[:1000]) / 20


def _shown(data: bytes) -> str:
    """Return the beginning as a message shows it, in ASCII."""
    return ascii(data[:40].decode("utf-8", "replace")) + ("..." if len(data) > 40 else "")
