"""What a store says of the content of a file, which identifies it without reading it."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pyarrow as pa

from bulkembed.schemas.inputs import FoundFile
from bulkembed.transforms.inputs.filesystems import open_found

_AZURE_MD5 = "Content-Hash"
"""A file that is uploaded in blocks has none unless its writer sends it."""
_CHECKSUMS = (("md5", "md5Hash"), ("crc32c", "crc32c"), ("md5", _AZURE_MD5))
"""Kinds of tags and where the metadata has them; the first two are Google's. A composite object
there has no MD5."""
_OF_EACH_WRITE = (("generation", "generation"), ("etag", "ETag"))
"""Google's `etag` is not used: it also changes with the metadata of a file."""
_EMPTY = re.compile(r"(W/)?\"?0*(-\d+)?\"?")
"""Some servers of S3's protocol send zeros for files whose content they do not know."""

NO_TAG = "bytes"
"""Stands for a digest of bytes: a file that is known to have one is read as a whole."""


def tag_of(metadata: Mapping[str, bytes] | None) -> str | None:
    """Return the tag of a file, such as `etag:"9e2c5b26-1"`; None if the store gives none.

    A file with other content has another tag. A checksum of the content is used if the store has
    one, since it stays the same if the same content is written again.

    Args:
        metadata: what pyarrow says of an opened file.
    """
    known = dict(metadata or {})
    if known.get("Blob-Type", b"BlockBlob") != b"BlockBlob":
        # Nothing checks the MD5 of a page blob or an append blob when it is written to.
        known.pop(_AZURE_MD5, None)
    for kind, name in (*_CHECKSUMS, *_OF_EACH_WRITE):
        value = known.get(name, b"").decode("ascii", "backslashreplace")
        if _EMPTY.fullmatch(value) is None:
            return f"{kind}:{value}"
    return None


def is_tag(digest: str) -> bool:
    """Return whether `InputFile.digest` is a store's tag, and not a hash of the bytes."""
    return ":" in digest


def kind_of(digest: str) -> str:
    """Return the kind of a tag, such as etag; an empty string for a hash of the bytes."""
    return digest.partition(":")[0] if is_tag(digest) else ""


def tag_now(found: FoundFile) -> str | None:
    """Return the tag of a file on a store; None if it has none, or cannot be opened."""
    try:
        with open_found(found).open_input_file(found.path) as stored:
            return tag_of(stored.metadata())
    except (OSError, pa.ArrowException):
        return None
