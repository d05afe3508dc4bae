"""Rows of the input and committed rows, as the keys by which they are compared."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.fetch_settings import FetchSettings
from bulkembed.schemas.inputs import PASSAGE_COLUMNS, SOURCE_HASH, InputColumns
from bulkembed.transforms.core.content import sent_hash
from bulkembed.transforms.core.hashing import keys
from bulkembed.transforms.core.passages import passage_spans
from bulkembed.transforms.core.row_difference import COMMITTED_ROW, INPUT_ROW, Kind
from bulkembed.transforms.dataset.row_keys import (
    column_keys,
    hash_keys,
    id_keys,
    joined_keys,
)
from bulkembed.transforms.inputs.rows import RowBatch
from bulkembed.transforms.units.distinct_contents import why_blank

Rows = npt.NDArray[np.void]
Numbers = npt.NDArray[np.uint64]
_LETTER = b"dead letter"


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """How rows are read and compared."""

    embedding: EmbeddingConfig
    read: InputColumns
    schema: pa.Schema
    """The output's id and kept columns."""
    fetch: FetchSettings = dataclasses.field(default_factory=FetchSettings)
    media_root: tuple[str, str] | None = None
    """See `JobConfig.media_root`."""
    by_bytes: bool = False
    """Whether rows with media are compared by the bytes of their files, and not by what the input
    says about them."""

    @property
    def columns(self) -> list[str]:
        """The kept columns that are compared by their values."""
        kept = [name for name in self.schema.names if name != "id"]
        if not self.embedding.rows_are_passages:
            return kept
        # A row of a passage has only a part of the text there; contents are compared anyway.
        return [name for name in kept if name != self.read.text_column]

    @property
    def hash_column(self) -> str:
        """The column of a part whose values identify contents."""
        by_source = self.embedding.media is not None and not self.by_bytes
        return SOURCE_HASH if by_source else "text_hash"

    @property
    def vector_columns(self) -> list[str]:
        """The columns of a part that are read."""
        own = PASSAGE_COLUMNS if self.embedding.rows_are_passages else ()
        return ["id", *own, self.hash_column, *self.columns]


class RowHashes(NamedTuple):
    """What identifies rows of the input; each list has one entry per row."""

    letters: list[bytes]
    """Of the dead letter that the row would become."""
    contents: list[bytes]
    """Of its vectors' contents."""
    names_files: Sequence[bool] | None = None
    """Whether they change with a file that the row names; None if no row names one."""


LETTER_COLUMNS = ("id", "code", "text", "text_hash")
"""The columns of dead letters that are read."""


def input_rows(
    batch: RowBatch,
    first_place: int,
    compared: Comparison,
    hashes: RowHashes | None = None,
) -> Rows:
    """Return the keys of rows of the input, of dtype INPUT_ROW, in their order.

    Args:
        batch: the rows.
        first_place: the place of the first one.
        compared: what is compared.
        hashes: what identifies the rows; by default, they are texts.
    """
    rows = np.zeros(batch.rows, INPUT_ROW)
    letters, contents, names_files = hashes or _text_hashes(batch, compared.embedding)
    rows["letter"], rows["content"] = keys(letters), keys(contents)
    if names_files is not None:
        rows["names_files"] = names_files
    rows["columns"] = column_keys(batch.kept, compared.columns)
    rows["place"] = np.arange(first_place, first_place + batch.rows)
    _set_ids(rows, batch.ids, rows["letter"])
    return rows


def _text_hashes(batch: RowBatch, embedding: EmbeddingConfig) -> RowHashes:
    letters: list[bytes] = []
    contents: list[bytes] = []
    for offset, (title, text) in enumerate(zip(batch.titles, batch.texts, strict=True)):
        bad = batch.bad.get(offset)
        if bad is not None or text is None or why_blank(text) is not None:
            letters.append(letter_hash(bad[0] if bad else DeadCode.BLANK_TEXT, text))
        else:
            letters.append(sent_hash(embedding, title, text))
            if embedding.long_text.cuts:
                contents.append(_content_hash(embedding, title, text, letters[-1]))
                continue
        contents.append(letters[-1])
    return RowHashes(letters, contents)


def letter_hash(code: DeadCode, text: str | None) -> bytes:
    """Return a hash of a row that is not sent: of why, and of its text."""
    digest = hashlib.blake2b(_LETTER, digest_size=16)
    digest.update(f"{code}\0{'' if text is None else '='}".encode())
    digest.update((text or "").encode())
    return digest.digest()


def _content_hash(embedding: EmbeddingConfig, title: str | None, text: str, whole: bytes) -> bytes:
    """Return the hash of a text that may be cut, as `vector_rows` finds it in the parts."""
    if not embedding.rows_are_passages:
        # A text of one passage has the hash of that passage, without the white space around it.
        if not (text[0].isspace() or text[-1].isspace()):
            return whole
        spans = passage_spans(embedding, title, text)
        (start, end) = spans[0] if len(spans) == 1 else (0, len(text))
        return sent_hash(embedding, title, text[start:end])
    spans = passage_spans(embedding, title, text)
    hashes = [sent_hash(embedding, title, text[start:end]) for start, end in spans]
    return passages_hash(hashes, np.array(spans, np.uint64))


def passages_hash(hashes: Sequence[bytes], places: Numbers) -> bytes:
    """Return what identifies a row by the hashes and the places of its passages, shape (n, 2)."""
    numbers = np.arange(len(hashes), dtype=np.uint64)
    each = _passage_keys(keys(hashes), numbers, places[:, 0], places[:, 1])
    content: bytes = each.sum(dtype=np.uint64).tobytes() + bytes(8)
    return content


def _passage_keys(hashes: Numbers, numbers: Numbers, starts: Numbers, ends: Numbers) -> Numbers:
    """Return a key for each passage, made of its text and its place.

    The sum of the keys of a row's passages is the key of its content.
    """
    return joined_keys((hashes, numbers, starts, ends), len(hashes))


def _set_ids(rows: Rows, ids: pa.Array | pa.ChunkedArray, letters: Numbers) -> None:
    """Set the keys of the ids; a row without an id gets the key of its dead letter."""
    both = id_keys(ids)
    has_id = ids.is_valid().to_numpy(zero_copy_only=False)
    rows["has_id"] = has_id
    rows["id_high"] = np.where(has_id, both[:, 0], letters)
    rows["id_low"] = np.where(has_id, both[:, 1], 0)


def vector_rows(table: pa.Table, first_place: int, age: int, compared: Comparison) -> Rows:
    """Return the keys of committed rows with vectors, of dtype COMMITTED_ROW.

    Args:
        table: consecutive rows of a part, with the columns of `compared.vector_columns`. If the
            rows are passages, all passages of each input row must be there.
        first_place: the place of the first row.
        age: the age of their commit.
        compared: what is compared.
    """
    hashes = hash_keys(table[compared.hash_column])
    starts = np.arange(len(hashes))
    if compared.embedding.rows_are_passages:
        numbers, begins, ends = (place_numbers(table[name]) for name in PASSAGE_COLUMNS)
        starts = np.flatnonzero(numbers == 0)
        if compared.hash_column == SOURCE_HASH:
            hashes = hashes[starts]
        else:
            passages = _passage_keys(hashes, numbers, begins, ends)
            hashes = np.add.reduceat(passages, starts) if len(starts) else passages[:0]
        table_of_rows = table.take(pa.array(starts))
    else:
        table_of_rows = table
    rows = np.zeros(len(starts), COMMITTED_ROW)
    rows["content"] = hashes
    rows["columns"] = column_keys(table_of_rows, compared.columns)
    rows["place"] = first_place + starts
    rows["rows"] = np.diff(starts, append=table.num_rows)
    rows["age"], rows["kind"] = age, Kind.VECTORS
    _set_ids(rows, table_of_rows["id"], rows["content"])
    return rows


def place_numbers(places: pa.ChunkedArray) -> Numbers:
    """Return whole numbers as they are, and seconds or pages by their bits; 0 for null."""
    if not pa.types.is_floating(places.type):
        whole: Numbers = places.to_numpy().astype(np.uint64)
        return whole
    seconds = pc.fill_null(places, 0.0).to_numpy().astype(np.float64)
    bits: Numbers = seconds.view(np.uint64)
    return bits


def letter_rows(table: pa.Table, first_place: int, age: int, *, retried: bool = False) -> Rows:
    """Return the keys of committed dead letters, of dtype COMMITTED_ROW.

    Args:
        table: dead letters, with the columns LETTER_COLUMNS.
        first_place: the place of the first one.
        age: the age of their commit.
        retried: whether those that failed are to be sent again.
    """
    rows = np.zeros(table.num_rows, COMMITTED_ROW)
    rows["content"] = _letter_keys(table)
    rows["place"] = np.arange(first_place, first_place + table.num_rows)
    rows["rows"], rows["age"] = 1, age
    blank = pc.equal(table["code"], str(DeadCode.BLANK_TEXT)).to_numpy()
    rows["kind"] = np.where(blank, Kind.BLANK, Kind.RETRIED if retried else Kind.FAILED)
    _set_ids(rows, table["id"], rows["content"])
    return rows


def _letter_keys(table: pa.Table) -> Numbers:
    hashes: Sequence[bytes | None] = table["text_hash"].to_pylist()
    missing = [row for row, known in enumerate(hashes) if known is None]
    found = list(hashes)
    few = table.select(["code", "text"]).take(pa.array(missing, pa.int64())).to_pylist()
    for row, letter in zip(missing, few, strict=True):
        found[row] = letter_hash(DeadCode(letter["code"]), letter["text"])
    return keys([known or b"" for known in found])
