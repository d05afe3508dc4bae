"""The schema of the output: the columns of vectors and dead letters."""

from __future__ import annotations

import pyarrow as pa

from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.inputs import (
    MEDIA_COLUMN,
    OUR_COLUMNS,
    PASSAGE_COLUMNS,
    PROVENANCE_COLUMNS,
    SOURCE_HASH,
)

TEXT_HASH_TYPE = pa.binary(16)
PASSAGE_FIELDS = tuple(
    pa.field(name, kind, nullable=False)
    for name, kind in zip(PASSAGE_COLUMNS, (pa.int32(), pa.int64(), pa.int64()), strict=True)
)
"""If the rows are passages: the number in its text, from 0, and its first and end character."""
PIECE_FIELDS = (
    PASSAGE_FIELDS[0],
    *(pa.field(name, pa.float64()) for name in PASSAGE_COLUMNS[1:]),
)
"""The same of pieces of media: the number, and the first and end second or page; null for a row
that was not cut."""
PROVENANCE_FIELDS = tuple(
    pa.field(name, kind, nullable=False)
    for name, kind in zip(
        PROVENANCE_COLUMNS, (pa.string(), pa.timestamp("us", tz="UTC")), strict=True
    )
)
"""With `--provenance`: the run that wrote the row, and when."""
MEDIA_FIELD = pa.field(
    MEDIA_COLUMN,
    pa.list_(
        pa.struct(
            [
                pa.field("kind", pa.string(), nullable=False),
                pa.field("mime_type", pa.string(), nullable=False),
                pa.field("bytes", pa.int64(), nullable=False),
                pa.field("uri", pa.string()),
            ]
        )
    ),
    nullable=False,
)
"""If `--content` names media: the media of the row, in the order in which it was sent, by its true
type and its size in the input. `uri` is null if the input has the bytes."""
SOURCE_HASH_FIELD = pa.field(SOURCE_HASH, TEXT_HASH_TYPE, nullable=False)
"""If a dataset with media mirrors its input: what identifies the row there, by which the next run
compares; see `units.source_hashes`."""
ID_KEY = "bulkembed.id"
"""Has the name of the id's column in the footer of a part, if it is not `id`."""
ROWS_KEY, PASSAGES = "bulkembed.rows", "passages"
"""Marks parts whose rows are passages, in their footer."""
REMOVED_KEY = "bulkembed.removed"
"""In the footer of a copy: how many rows of its unit were removed, from which a lost commit record
is rebuilt."""
_FLOATS = {"float32": pa.float32(), "float16": pa.float16()}


def vectors_schema(
    row_schema: pa.Schema,
    dim: int,
    vector_type: str,
    metadata: dict[str, str],
    *,
    passages: bool = False,
    id_name: str = "id",
    provenance: bool = False,
    media: bool = False,
    synced: bool = False,
) -> pa.Schema:
    """Return the schema of the vectors.

    The columns are the id, PASSAGE_FIELDS or PIECE_FIELDS, vector, kept columns, MEDIA_FIELD,
    SOURCE_HASH_FIELD, text_hash, truncated, source_file, source_row and PROVENANCE_FIELDS.

    Args:
        row_schema: `id` and the kept columns, typed as in the input.
        dim: the dimensions of a vector.
        vector_type: "float32" or "float16".
        metadata: of every part's footer.
        passages: whether the rows are passages, or pieces if there is media.
        id_name: the name of the id's column.
        provenance: whether there are PROVENANCE_FIELDS.
        media: whether there is a MEDIA_FIELD.
        synced: whether the dataset mirrors its input; with media, there is a SOURCE_HASH_FIELD.
    """
    number = pa.field("element", _FLOATS[vector_type], nullable=False)
    kept = [field for field in row_schema if field.name not in OUR_COLUMNS]
    return pa.schema(
        [
            row_schema.field("id").with_nullable(False).with_name(id_name),
            *((PIECE_FIELDS if media else PASSAGE_FIELDS) if passages else ()),
            pa.field("vector", pa.list_(number, dim), nullable=False),
            *kept,
            *((MEDIA_FIELD,) if media else ()),
            *((SOURCE_HASH_FIELD,) if media and synced else ()),
            pa.field("text_hash", TEXT_HASH_TYPE, nullable=False),
            pa.field("truncated", pa.bool_()),
            pa.field("source_file", pa.string(), nullable=False),
            pa.field("source_row", pa.int64(), nullable=False),
            *(PROVENANCE_FIELDS if provenance else ()),
        ],
        metadata=metadata | _id_fact(id_name),
    )


def dead_letters_schema(
    row_schema: pa.Schema,
    metadata: dict[str, str],
    *,
    id_name: str = "id",
    hashes: bool = False,
) -> pa.Schema:
    """Return the schema of the dead letters.

    The columns are the id, source_file, source_row, code, message, http_status, attempts and text.

    Args:
        row_schema: has the type of `id`.
        metadata: of every part's footer.
        id_name: the name of the id's column.
        hashes: whether there is a column `text_hash`, as in a synchronised dataset. It is null for
            a row that cannot be sent.
    """
    return pa.schema(
        [
            row_schema.field("id").with_nullable(True).with_name(id_name),
            pa.field("source_file", pa.string(), nullable=False),
            pa.field("source_row", pa.int64(), nullable=False),
            pa.field("code", pa.string(), nullable=False),
            pa.field("message", pa.string(), nullable=False),
            pa.field("http_status", pa.int32()),
            pa.field("attempts", pa.int32(), nullable=False),
            pa.field("text", pa.string()),
            *([pa.field("text_hash", TEXT_HASH_TYPE)] if hashes else []),
        ],
        metadata=metadata | _id_fact(id_name),
    )


def part_metadata(embedding: EmbeddingConfig, version: str, dim: int | None) -> dict[str, str]:
    """Return the metadata of a part's footer; `dim` is None for dead letters."""
    facts = {
        "version": version,
        "digest": embedding.digest,
        "service": embedding.service,
        "model": embedding.spec.name,
        "task_type": str(embedding.task_type),
        "prefix": embedding.prefix or "",
        "normalized": str(embedding.normalize).lower(),
        **({"dim": str(dim)} if dim is not None else {}),
    }
    rows = {ROWS_KEY: PASSAGES} if dim is not None and embedding.rows_are_passages else {}
    return {f"bulkembed.{name}": value for name, value in facts.items()} | rows


def _id_fact(id_name: str) -> dict[str, str]:
    return {ID_KEY: id_name} if id_name != "id" else {}
