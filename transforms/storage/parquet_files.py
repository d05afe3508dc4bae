"""Parquet files opened so that every value can be read as it is."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

_BUFFER_BYTES = 1 << 20
_MAGIC = b"PAR1"
_TAIL_BYTES = 8
"""Length of the footer, and the magic bytes."""
_ARROW_SCHEMA, _NO_SCHEMA = b"ARROW:schema", b"-----:------"


def open_parquet(stored: pa.NativeFile, *, arrow_types: bool = True) -> pq.ParquetFile:
    """Open a Parquet file; read INT96 timestamps as microseconds, so that every year fits.

    Args:
        stored: the file.
        arrow_types: give columns the types that the writer noted for Arrow.  Without them a list of
            fixed size is a list, which can be null: pyarrow 25 cannot read a null list of fixed
            size ("Expected all lists to be of size=2 but index 2 had size=0").
    """
    metadata = None if arrow_types else _without_arrow_schema(stored)
    return pq.ParquetFile(
        stored,
        metadata=metadata,
        buffer_size=_BUFFER_BYTES,
        pre_buffer=False,
        coerce_int96_timestamp_unit="us",
    )


def _without_arrow_schema(stored: pa.NativeFile) -> pq.FileMetaData:
    """Return the footer with the key of Arrow's types renamed."""
    size = stored.size()
    tail = stored.read_at(_TAIL_BYTES, size - _TAIL_BYTES)
    length = int.from_bytes(tail[:4], "little") + _TAIL_BYTES
    footer = stored.read_at(length, size - length)
    return pq.read_metadata(pa.BufferReader(_MAGIC + footer.replace(_ARROW_SCHEMA, _NO_SCHEMA)))
