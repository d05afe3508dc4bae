"""The rows of units as the input has them: their ids, and the hashes of what they send."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import pyarrow as pa

from bulkembed.pipeline.run.request import InputRequest
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.inputs import InputFile
from bulkembed.schemas.units import UnitRecord
from bulkembed.transforms.core.content import sent_hasher
from bulkembed.transforms.inputs.filesystems import Location, locate, open_found
from bulkembed.transforms.inputs.input_files import read_batches
from bulkembed.transforms.inputs.rows import BadValue, RowBatch
from bulkembed.transforms.media.fetching import MediaFetcher
from bulkembed.transforms.units.media_rows import FetchAhead
from bulkembed.transforms.units.media_units import media_root, windows
from bulkembed.transforms.units.sent_hashes import SentHashes, sent_hashes
from bulkembed.transforms.units.source_hashes import with_files

PartRow = Mapping[str, Any]
"""A row of the dataset: `source_row`, and of a passage also its number and its place."""


class SourceUnit(Protocol):
    """The rows of a unit in the input, by the rows of the dataset."""

    OTHER: ClassVar[str]
    """What a row has whose content is another one."""

    def id_of(self, row: PartRow) -> Any:
        """Return the id of a row."""

    def hash_of(self, row: PartRow) -> bytes | None:
        """Return the hash of what is sent for a row or passage; None if it is not sent."""

    def fault_of(self, row: PartRow) -> str | None:
        """Return why the media of a row cannot be read."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class TextUnit:
    """Rows that are texts alone."""

    OTHER: ClassVar[str] = "another text"
    batch: RowBatch
    ids: Sequence[Any]
    sent_hash: Callable[[str | None, str], bytes]
    """Returns the hash of a text and its title as they are sent."""

    def id_of(self, row: PartRow) -> Any:
        """Return the id of a row."""
        return self.ids[row["source_row"] - self.batch.first_row]

    def hash_of(self, row: PartRow) -> bytes | None:
        """Return the hash of the text that is sent for a row or passage; None if it has none."""
        offset = row["source_row"] - self.batch.first_row
        text = passage_text(self.batch, row)
        return None if text is None else self.sent_hash(self.batch.titles[offset], text)

    def fault_of(self, row: PartRow) -> str | None:
        """Return None: a text is in the input."""
        return None


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class MediaUnit:
    """Rows with media, whose bytes have been read."""

    OTHER: ClassVar[str] = "other texts or media"
    first_row: int
    ids: pa.Array
    sent: Sequence[SentHashes | BadValue]

    def id_of(self, row: PartRow) -> Any:
        """Return the id of a row."""
        return self.ids[row["source_row"] - self.first_row].as_py()

    def hash_of(self, row: PartRow) -> bytes | None:
        """Return the hash of what is sent for a row or piece; None if it is not sent."""
        sent, piece = self.sent[row["source_row"] - self.first_row], row.get("passage", 0)
        is_sent = not isinstance(sent, BadValue) and piece < len(sent)
        return sent[piece].hash if is_sent else None

    def fault_of(self, row: PartRow) -> str | None:
        """Return why the media of a row cannot be read."""
        sent = self.sent[row["source_row"] - self.first_row]
        return str(sent) if isinstance(sent, BadValue) else None


def passage_text(batch: RowBatch, row: PartRow) -> str | None:
    """Return the text of a row in the input, or of a passage in it."""
    text: str | None = batch.texts[row["source_row"] - batch.first_row]
    return None if text is None else text[row.get("start") : row.get("end")]


class InputMedia:
    """Reads the media of an input.

    Args:
        wanted: the input.
        by_uri: whether files in buckets were sent by their URIs.
    """

    def __init__(self, wanted: InputRequest, *, by_uri: bool) -> None:
        self._root = None if wanted.media_root is None else locate(wanted.media_root)
        self._fetcher = MediaFetcher(wanted.fetch, by_uri=by_uri)

    @property
    def fetch(self) -> FetchAhead:
        """Reads what is not in the rows."""
        return self._fetcher.fetch_ahead

    def base(self, file: InputFile) -> Location:
        """Return the folder of relative paths in a file."""
        return media_root(self._root, file.found)

    def with_files(self, batch: RowBatch, file: InputFile) -> RowBatch:
        """Return rows of a file as `source_hashes.with_files` does."""
        return with_files(batch, file.name, self.base(file))

    def close(self) -> None:
        """Cancel what is in flight."""
        self._fetcher.close()


@contextlib.contextmanager
def input_media(wanted: InputRequest, embedding: EmbeddingConfig) -> Iterator[InputMedia | None]:
    """Yield what reads the media of an input; None if its rows are texts alone."""
    if embedding.media is None:
        yield None
        return
    media = InputMedia(wanted, by_uri=embedding.sends_uris)
    try:
        yield media
    finally:
        media.close()


def source_units(
    file: InputFile,
    wanted: InputRequest,
    schema: pa.Schema,
    embedding: EmbeddingConfig,
    records: Sequence[UnitRecord],
    media: InputMedia | None,
) -> Iterator[SourceUnit]:
    """Yield the rows of units of a file.

    Args:
        file: the file.
        wanted: the input.
        schema: the output's id and kept columns.
        embedding: how contents are sent.
        records: the records of the units, in the order of their rows.
        media: reads media; None if rows are texts alone.

    Raises:
        InputError: the file cannot be read, or has changed since it was scanned.
    """
    filesystem = open_found(file.found)
    ranges = [(record.unit.first_row, record.unit.rows) for record in records]
    if media is None:
        hash_of = sent_hasher(embedding)
        for batch in read_batches(filesystem, file, wanted.columns, schema, ranges):
            yield TextUnit(batch, batch.ids.to_pylist(), hash_of)
        return
    pieces = [windows(file, [rows]) for rows in ranges]
    whole = [one for own in pieces for one in own]
    batches = read_batches(filesystem, file, wanted.columns, schema, whole)
    for (first_row, _), own in zip(ranges, pieces, strict=True):
        ids: list[pa.Array] = []
        sent: list[SentHashes | BadValue] = []
        for _ in own:
            batch = next(batches)
            ids.append(batch.ids)
            sent += sent_hashes(batch.parts or [], embedding, media.fetch, media.base(file))
        yield MediaUnit(first_row, pa.concat_arrays(ids), sent)
