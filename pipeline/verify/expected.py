"""What each part of a dataset must look like, by what is pinned for the dataset."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.findings import Check, Finding
from bulkembed.schemas.job import VectorType
from bulkembed.schemas.tables import dead_letters_schema, part_metadata, vectors_schema

OURS = 1e-4
"""How far from 1 the length of a float32 vector may be that the job brought to unit length."""
ROUNDED = 1e-3
"""The same where the numbers are float16, or as the service gives them."""
_ANY_VERSION = "bulkembed.version"


@dataclasses.dataclass(frozen=True, slots=True)
class PartKind:
    """Columns, types and footer of the parts of one folder; `has_vectors` for `vectors/`."""

    types: dict[str, str]
    """Type of each column as Arrow writes it, in order."""
    metadata: dict[str, str]
    has_vectors: bool
    tolerance: float | None = None
    """How far a vector's length may be from 1; None where it is free."""

    def findings(self, name: str, part: pq.ParquetFile) -> list[Finding]:
        """What a part's footer says against it."""
        schema: pa.Schema = part.schema_arrow
        found = []
        types = {field.name: str(field.type) for field in schema}
        if _named_alike(types) != _named_alike(self.types):
            found.append(Finding(Check.SCHEMA, name, _difference("column", self.types, types)))
        said = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
        ours = {key: said[key] for key in said if key in self.metadata}
        if ours != self.metadata:
            found.append(Finding(Check.METADATA, name, _difference("footer", self.metadata, ours)))
        return found


@dataclasses.dataclass(frozen=True, slots=True)
class Expected:
    """What parts of vectors and parts of dead letters must look like."""

    vectors: PartKind
    dead_letters: PartKind
    digest: str
    """Of the settings that made the vectors."""

    @classmethod
    def of(cls, pinned: dict[str, Any], dim: int) -> Expected:
        """From the content of `run.json`; `dim` is the length of the vectors."""
        embedding = EmbeddingConfig.from_facts(pinned["embedding"])
        layout = pinned["layout"]
        return cls(
            PartKind(
                _vector_types(layout, dim, passages=embedding.rows_are_passages),
                _metadata(embedding, dim),
                has_vectors=True,
                tolerance=_tolerance(embedding, VectorType(layout["vector_type"]), dim),
            ),
            PartKind(_dead_types(layout), _metadata(embedding, None), has_vectors=False),
            pinned["embedding_digest"],
        )


_LIST_FIELD = re.compile(r"list<\w+: ")
_MAP_NAME = re.compile(r" \('[^']*'\)>")


def _named_alike(types: dict[str, str]) -> list[tuple[str, str]]:
    """The columns with their types, in order; Parquet gives lists and maps names of its own."""
    return [
        (name, _MAP_NAME.sub(">", _LIST_FIELD.sub("list<element: ", kind)))
        for name, kind in types.items()
    ]


_NO_ROWS = pa.schema([("id", pa.null())])


def _vector_types(layout: dict[str, Any], dim: int, *, passages: bool) -> dict[str, str]:
    schema = vectors_schema(_NO_ROWS, dim, layout["vector_type"], {}, passages=passages)
    ours = list({**_types(schema), "id": layout["id_type"]}.items())
    kept_at = schema.get_field_index("vector") + 1
    return {**dict(ours[:kept_at]), **layout["kept"], **dict(ours[kept_at:])}


def _dead_types(layout: dict[str, Any]) -> dict[str, str]:
    return {**_types(dead_letters_schema(_NO_ROWS, {})), "id": layout["id_type"]}


def _types(schema: pa.Schema) -> dict[str, str]:
    return {field.name: str(field.type) for field in schema}


def _metadata(embedding: EmbeddingConfig, dim: int | None) -> dict[str, str]:
    facts = part_metadata(embedding, "", dim)
    # Runs of several versions may have added to the dataset.
    return {name: value for name, value in facts.items() if name != _ANY_VERSION}


def _tolerance(embedding: EmbeddingConfig, numbers: VectorType, dim: int) -> float | None:
    if embedding.normalize:
        return OURS if numbers is VectorType.FLOAT32 else ROUNDED
    return ROUNDED if embedding.spec.gives_unit_length(dim) else None


def _difference(what: str, wanted: dict[str, str], found: dict[str, str]) -> str:
    lines = [
        f"{what} {name!r} is {found.get(name, 'not there')}, the dataset's is "
        f"{wanted.get(name, 'not there')}"
        for name in {**wanted, **found}
        if wanted.get(name) != found.get(name)
    ]
    return "; ".join(lines) or f"the order of columns is {', '.join(found)}"
