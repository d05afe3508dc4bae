"""Small images and texts of sampled rows with media, read in bounded time.

They come from the input, and images also from kept columns of the dataset.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import io
import itertools
import time
from collections.abc import Container, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from bulkembed.pipeline.report.sample import SEED, SampledRow, blocks_with, input_columns, is_quick
from bulkembed.pipeline.run.scans import planned_files
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.errors import ConfigError, InputError
from bulkembed.schemas.inputs import OUR_COLUMNS, InputFile
from bulkembed.schemas.media import MediaFault, MediaKind
from bulkembed.transforms.core.content import sent_hash
from bulkembed.transforms.core.media_content import parts_hash
from bulkembed.transforms.dataset import part_files
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.inputs.filesystems import Location, locate, names_a_host, open_found
from bulkembed.transforms.inputs.input_files import read_batches
from bulkembed.transforms.inputs.row_parts import RowPart
from bulkembed.transforms.inputs.rows import BadValue
from bulkembed.transforms.media.media_refs import MediaRef, is_web_address, refs_of
from bulkembed.transforms.media.prepare_media import check_installed
from bulkembed.transforms.media.stored_media import located, read_stored
from bulkembed.transforms.units.media_rows import is_media, parts_with_refs

MAX_ROWS = 500
"""The most rows of which the input is read."""
MAX_S = 5.0
"""After this time no further row is read: the input may be distant or large."""
MAX_ROW_BYTES = 20_000_000
"""Rows with more media are not read."""
MAX_IMAGE_BYTES = 1_000_000
"""Of all small images together."""
KEPT_ROWS = 16
"""Rows of kept images to hold in memory."""
SIDE = 72
"""The longer side of a small image in pixels."""


class RowView(NamedTuple):
    """What a report shows of a row."""

    text: str
    """The texts beside its media; may be empty."""
    thumbnail: bytes | None
    """Its first image as a small JPEG; None if it has none that can be read."""


def views_of(
    dataset: Dataset, pinned: dict[str, Any], rows: Sequence[SampledRow]
) -> dict[int, RowView]:
    """Return what can be shown of rows with media, by their places among `rows`.

    Random rows are read, the same ones each time. A row of the input counts only if its content
    has the hash of what was embedded, so that no other file is shown. Where the input has gone,
    images come from kept columns with their bytes. Nothing is downloaded from web servers.

    Args:
        dataset: the dataset of the rows; some parts of its contents are media.
        pinned: the content of its `run.json`.
        rows: the rows, in any order.
    """
    try:
        check_installed()
        root = _root(pinned)
    except ConfigError:
        return {}
    chance = np.random.default_rng(SEED)
    by_file: dict[str, list[int]] = collections.defaultdict(list)
    for at in chance.permutation(len(rows))[:MAX_ROWS].tolist():
        if _is_small(rows[at]):
            by_file[rows[at].file_key].append(at)
    found: dict[int, RowView] = {}
    image_bytes = 0
    until = time.monotonic() + MAX_S
    of_input = _views(dataset, pinned, rows, by_file, root)
    wanted = sorted(at for places in by_file.values() for at in places)
    of_parts = _kept_views(dataset, pinned, rows, wanted, found)
    for at, view in itertools.chain(of_input, of_parts):
        if view is not None:
            image_bytes += len(view.thumbnail or b"")
            if image_bytes > MAX_IMAGE_BYTES:
                break
            found[at] = view
        if time.monotonic() > until:
            break
    return found


def _root(pinned: dict[str, Any]) -> Location | None:
    """Return the folder of relative paths; None for that of each input file."""
    root = pinned["settings"].get("media_root")
    if root is None:
        return None
    if names_a_host(str(root)):
        raise ConfigError("the dataset names the endpoint of a store")
    return locate(str(root))


def _is_small(row: SampledRow) -> bool:
    media = row.media or ()
    is_remote = any(is_web_address(one["uri"] or "") for one in media)
    return not is_remote and sum(one["bytes"] for one in media) <= MAX_ROW_BYTES


def _views(
    dataset: Dataset,
    pinned: dict[str, Any],
    rows: Sequence[SampledRow],
    by_file: dict[str, list[int]],
    root: Location | None,
) -> Iterator[tuple[int, RowView | None]]:
    """Yield each row that was tried, with None if it cannot be shown."""
    files = planned_files(dataset)
    embedding = EmbeddingConfig.from_facts(pinned["embedding"])
    for key, places in by_file.items():
        file = files.get(key)
        if file is None or not is_quick(file) or names_a_host(file.found.store):
            continue  # No credentials are sent to a host that only the dataset names.
        base = root or Location(file.found.store, file.found.path.rpartition("/")[0])
        places.sort(key=lambda at: rows[at].source_row)
        try:
            for at, parts in _parts(file, pinned, rows, places):
                yield at, _view(parts, base, rows[at], embedding)
        except (ConfigError, InputError):
            yield places[0], None  # The file was deleted or changed.


def _parts(
    file: InputFile, pinned: dict[str, Any], rows: Sequence[SampledRow], places: Sequence[int]
) -> Iterator[tuple[int, Sequence[RowPart]]]:
    schema = pa.schema([("id", pa.string())])
    # Pieces of long media are rows of one row of the input.
    by_row = [
        (row, list(some)) for row, some in itertools.groupby(places, lambda at: rows[at].source_row)
    ]
    spans = [(row, 1) for row, _ in by_row]
    batches = read_batches(open_found(file.found), file, input_columns(pinned), schema, spans)
    for (_, some), batch in zip(by_row, batches, strict=True):
        for at in some:
            yield at, (batch.parts or [()])[0]


def _view(
    parts: Sequence[RowPart], base: Location, row: SampledRow, embedding: EmbeddingConfig
) -> RowView | None:
    """Return what is shown of a row; None if its content cannot be read or has changed."""
    try:
        sources = [
            one if isinstance(one, str) else (one[0], _bytes_of(one[1]))
            for one in parts_with_refs(parts, base)
        ]
    except (BadValue, MediaFault):
        return None
    if is_media(sources):
        content_hash = parts_hash(sources)
    else:
        content_hash = sent_hash(embedding, None, str(sources[0])) if sources else b""
    if content_hash != row.text_hash:
        return None
    images = [one[1] for one in sources if not isinstance(one, str) and one[0] is MediaKind.IMAGE]
    texts = [one for one in sources if isinstance(one, str)]
    return RowView("\n".join(texts), _thumbnail(images[0]) if images else None)


def _bytes_of(ref: MediaRef) -> bytes:
    if ref.uri is None:
        return ref.data or b""
    file = io.BytesIO()
    read_stored(located(ref.uri, ref.base), file, MAX_ROW_BYTES)
    return file.getvalue()


def _kept_views(
    dataset: Dataset,
    pinned: dict[str, Any],
    rows: Sequence[SampledRow],
    wanted: Sequence[int],
    known: Container[int],
) -> Iterator[tuple[int, RowView | None]]:
    """Yield the images of kept columns, of rows that are not known when this starts."""
    content = input_columns(pinned).content
    images = [part.source for part in content if part.kind is MediaKind.IMAGE]
    by_part: dict[str, dict[int, int]] = collections.defaultdict(dict)
    for at in wanted:
        if at not in known:
            by_part[rows[at].part][rows[at].part_row] = at
    for name, places in by_part.items():
        opened = part_files.open_part(dataset, name)
        schema = opened.schema_arrow
        kept = [
            one
            for one in images
            if one not in OUR_COLUMNS and part_files.has_columns(schema, [one])
        ]
        if not kept:
            return
        in_order = np.array(sorted(places), np.int64)
        for first, here, block in blocks_with(name, opened, in_order, kept, KEPT_ROWS):
            for row in here.tolist():
                small = _kept_image([block.column(one)[row].as_py() for one in kept])
                yield places[first + row], None if small is None else RowView("", small)


def _kept_image(values: Sequence[Any]) -> bytes | None:
    """Return the first image whose bytes are among the values of a row."""
    for value in values:
        with contextlib.suppress(BadValue):
            refs = refs_of(value, kind=MediaKind.IMAGE, where="a kept column")
            if refs and refs[0].data is not None:
                return _thumbnail(refs[0].data)
    return None


def _thumbnail(data: bytes) -> bytes | None:
    from bulkembed.transforms.media.transcoding import thumbnail

    try:
        return thumbnail(data, SIDE)
    except MediaFault:
        return None


def with_views(rows: Sequence[SampledRow], views: dict[int, RowView]) -> tuple[SampledRow, ...]:
    """Return the rows with the texts and the small images that are known."""
    return tuple(
        dataclasses.replace(row, kept_text=views[at].text or None, thumbnail=views[at].thumbnail)
        if at in views
        else row
        for at, row in enumerate(rows)
    )
