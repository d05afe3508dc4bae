"""Media in a column: references to its bytes, in each form that datasets keep media in.

| value | reference |
|---|---|
| null, blank text, an empty list | none |
| bytes | these bytes |
| `{bytes, path}`, as Hugging Face has it | the bytes if there are any, else the path |
| text that begins with `data:` | the bytes of the data URI |
| text with `scheme://` | the URI |
| base64 of a file that begins as media does | its bytes |
| other text | a path |
| an image of Pillow, in pipelines of your own | its pixels as a PNG file |
| a list | a reference for each item that is not null |
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import re
import sys
import urllib.parse
from typing import Any

import pyarrow as pa

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.media import GEMINI_EMBEDDING_2, MediaFault, MediaKind
from bulkembed.transforms.inputs.filesystems import Location, scheme_of
from bulkembed.transforms.inputs.rows import BadValue, describe
from bulkembed.transforms.media.media_types import kind_of, true_type

_BASE64 = re.compile(r"[A-Za-z0-9+/_\-\s]+=?\s*=?\s*")
_HEAD_CHARS = 64
_SHORTEST_CHARS = 40
"""The shortest base64 that may be media: a GIF image has 26 bytes or more."""
_STANDARD = str.maketrans("-_", "+/")


@dataclasses.dataclass(frozen=True, slots=True)
class MediaRef:
    """One file of media: its bytes, or where they are. Exactly one of both is set."""

    data: bytes | None = dataclasses.field(default=None, repr=False)
    uri: str | None = None
    where: str = ""
    """The column, and the item of its list, for messages: `item 2 of column 'photos'`."""
    base: Location | None = None
    """The folder of a relative path; None is the current one."""


def place_of(ref: MediaRef) -> str:
    """Return the path or URI of a file, which differs for relative paths in different folders."""
    uri = ref.uri or ""
    if ref.base is None or scheme_of(uri) is not None or uri.startswith(("/", "~")):
        return uri
    return f"{uri}\n{ref.base.store}\n{ref.base.path}"


def is_web_address(uri: str) -> bool:
    """Return whether a URI is of a web server, and not of a disk or a store."""
    return scheme_of(uri) in ("http", "https")


def refs_of(
    value: Any, *, kind: MediaKind, where: str, base: Location | None = None
) -> tuple[MediaRef, ...]:
    """Return the references of a media column's value, in order; nothing is read.

    Args:
        value: the value, as Arrow or JSON gives it.
        kind: the kind of the part. A list may have 6 images, or one item of another kind.
        where: the column in a message, such as `column 'photo'`.
        base: the folder of relative paths: that of the input file, or `--media-root`.

    Raises:
        BadValue: it is no media, or the list is too long.
    """
    if not isinstance(value, list | tuple):
        return _refs_of_item(value, where, base)
    items = [(number, item) for number, item in enumerate(value, 1) if item is not None]
    most = GEMINI_EMBEDDING_2.images if kind is MediaKind.IMAGE else 1
    if len(items) > most:
        items_allowed = f"{most} images" if kind is MediaKind.IMAGE else f"1 {kind} item"
        what = f"{where} has a list of {len(items)}, but a row may have {items_allowed}"
        raise BadValue(DeadCode.TOO_LARGE, what)
    found = (_refs_of_item(item, f"item {number} of {where}", base) for number, item in items)
    return tuple(ref for refs in found for ref in refs)


def _refs_of_item(value: Any, where: str, base: Location | None) -> tuple[MediaRef, ...]:
    if isinstance(value, dict) and value.keys() & {"bytes", "path"}:
        data, path = value.get("bytes"), value.get("path")
        value = path if data is None else data
    if value is None or (isinstance(value, str) and not value.strip()):
        return ()
    if isinstance(value, pa.Buffer):
        value = value.to_pybytes()
    if isinstance(value, bytes | bytearray | memoryview):
        return (MediaRef(data=bytes(value), where=where),)
    if isinstance(value, str):
        return (_ref_of_text(value.strip(), where, base),)
    if is_pillow_image(value):
        return (MediaRef(data=_png_of(value, where), where=where),)
    raise BadValue(
        DeadCode.UNSUPPORTED_TYPE,
        f"{where} is {describe(value)}, but media must be bytes, a path, a URI, base64, a data "
        "URI, or an object with 'bytes' and 'path'",
    )


def is_media_value(value: Any) -> bool:
    """Return whether a value can only be media, and not a text."""
    if isinstance(value, dict):
        return bool(value.keys() & {"bytes", "path"})
    return isinstance(value, bytes | bytearray | memoryview) or is_pillow_image(value)


def is_pillow_image(value: Any) -> bool:
    """Return whether a value is an image of Pillow, without importing it."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def _png_of(image: Any, where: str) -> bytes:
    from bulkembed.transforms.media.transcoding import png_of

    try:
        return png_of(image)
    except MediaFault as fault:
        raise BadValue(fault.code, f"{where}: {fault.what}") from None


def _ref_of_text(text: str, where: str, base: Location | None) -> MediaRef:
    if text[:5].lower() == "data:":
        return MediaRef(data=_of_data_uri(text, where), where=where)
    if scheme_of(text) is None and _is_media_in_base64(text):
        return MediaRef(data=_decoded(text, where), where=where)
    return MediaRef(uri=text, where=where, base=base)


def _of_data_uri(uri: str, where: str) -> bytes:
    head, comma, body = uri[5:].partition(",")
    if not comma:
        raise BadValue(DeadCode.CORRUPT_MEDIA, f"{where} is a data: URI without a comma")
    if head.rpartition(";")[2].strip().lower() == "base64":
        return _decoded(urllib.parse.unquote(body), where)
    return urllib.parse.unquote_to_bytes(body)


def _is_media_in_base64(text: str) -> bool:
    """Return whether text is base64 of a file that begins as media does.

    A JPEG image begins with `/9j/`, as an absolute path may: what follows decides.
    """
    if len(text) < _SHORTEST_CHARS or not _BASE64.fullmatch(text[:_HEAD_CHARS]):
        return False
    begin = "".join(text[:_HEAD_CHARS].split()).rstrip("=").translate(_STANDARD)
    begin = begin[: len(begin) // 4 * 4]
    if kind_of(true_type(base64.b64decode(begin))) is None:
        return False
    return _BASE64.fullmatch(text) is not None


def _decoded(text: str, where: str) -> bytes:
    """Return the bytes of base64, of either alphabet, with or without padding and line breaks."""
    compact = "".join(text.split()).rstrip("=").translate(_STANDARD)
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise BadValue(DeadCode.CORRUPT_MEDIA, f"{where} is not valid base64") from None
