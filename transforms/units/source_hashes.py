"""What identifies the rows of an input with media, without reading the files that they name.

`--sync` compares rows by it: a row is unchanged if its texts and the bytes in it are, and each file
that it names has the same path or URI, size and time as when it was embedded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.media import MediaFault, MediaKind
from bulkembed.transforms.inputs.filesystems import Location
from bulkembed.transforms.inputs.row_parts import MediaValue, RowPart
from bulkembed.transforms.inputs.rows import BadValue, RowBatch
from bulkembed.transforms.media.media_refs import MediaRef
from bulkembed.transforms.units.media_rows import hash_without_fetching, parts_with_refs

FileVersions = Callable[[Sequence[MediaRef]], Sequence[str | MediaFault]]
"""Return the size and time of each file; see `fetching.MediaFetcher.versions`."""
UNKNOWN = "unknown"
"""The version of a file whose store does not answer: another run looks at it again."""


class SourceHash(NamedTuple):
    """What identifies a row."""

    hash: bytes
    names_files: bool
    """Whether it changes with a file that the row names."""
    fault: MediaFault | None = None
    """Why a file is unknown."""


def source_hashes(
    rows: Sequence[Sequence[RowPart]], embedding: EmbeddingConfig, versions: FileVersions
) -> list[SourceHash | None]:
    """Return what identifies each row; None for one without a part, or with bad media.

    Args:
        rows: their parts; see `with_files`.
        embedding: how texts are sent.
        versions: looks at files.
    """
    refs_of_rows = [_files(row) for row in rows]
    refs = [ref for row in refs_of_rows for ref in row or ()]
    known = dict(zip(refs, versions(refs), strict=True))

    def with_version(ref: MediaRef) -> str:
        version = known[ref]
        return f"{ref.uri}\n{UNKNOWN if isinstance(version, MediaFault) else version}"

    found: list[SourceHash | None] = []
    for row, named in zip(rows, refs_of_rows, strict=True):
        row_hash = hash_without_fetching(row, embedding, place=with_version)
        if named is None or row_hash is None:
            found.append(None)
            continue
        of_row = [known[ref] for ref in named]
        fault = next((one for one in of_row if isinstance(one, MediaFault)), None)
        # Nothing is known of URLs and of places that may not be read.
        found.append(SourceHash(row_hash, any(of_row), fault))
    return found


def _files(row: Sequence[RowPart]) -> list[MediaRef] | None:
    """Return what a row names outside of the input; None if its media is bad."""
    try:
        found = parts_with_refs(row)
    except BadValue:
        return None
    return [one[1] for one in found if not isinstance(one, str) and one[1].uri is not None]


def with_files(batch: RowBatch, file_name: str, base: Location) -> RowBatch:
    """Return a batch whose rows have one value for each file of media; bad media is in `bad`.

    Such rows mean the same wherever they are read again.

    Args:
        batch: rows of one file.
        file_name: the file, for messages.
        base: the folder of relative paths.
    """
    rows: list[tuple[RowPart, ...]] = []
    bad = dict(batch.bad)
    for offset, parts in enumerate(batch.parts or ()):
        try:
            found = [] if offset in bad else parts_with_refs(parts, base)
        except BadValue as fault:
            name, row = batch.source(offset, file_name)
            bad[offset] = fault.code, f"row {row} of {name}: {fault}"
            found = []
        rows.append(tuple(one if isinstance(one, str) else _value(*one) for one in found))
    return dataclasses.replace(batch, parts=rows, bad=dict(sorted(bad.items())))


def _value(kind: MediaKind, ref: MediaRef) -> MediaValue:
    value = ref.uri if ref.data is None else ref.data
    return MediaValue(kind, "", value, ref.where, ref.base)
