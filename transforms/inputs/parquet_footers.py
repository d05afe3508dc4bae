"""Footers of Parquet files, and the files that they open."""

from __future__ import annotations

import dataclasses

import pyarrow as pa
import pyarrow.parquet as pq

_BUFFER_BYTES = 1 << 20
_MAGIC = b"PAR1"
_TAIL_BYTES = 8
"""The end of a file: the length of its footer, and the magic bytes."""
_READ_BYTES = 64 << 10
"""How much of the end is read at first: most footers are smaller."""
_ARROW_SCHEMA, _NO_SCHEMA = b"ARROW:schema", b"-----:------"


@dataclasses.dataclass(frozen=True, slots=True)
class Footer:
    """The footer of a Parquet file."""

    metadata: pq.FileMetaData
    chunks: pq.FileMetaData | None
    """The same; None if columns are encrypted.  Then pyarrow 25 ends the process where the metadata
    of such a column chunk is looked at (`RowGroupMetaData.column`).  Reading the column raises.
    """
    _stored: bytes

    @property
    def rows(self) -> int:
        """How many rows the file has."""
        return int(self.metadata.num_rows)

    def without_arrow_types(self) -> Footer:
        """Return the footer without the types that the writer noted for Arrow.

        Then a list of fixed size is read as a plain list, which can be null: pyarrow 25 cannot read
        a null list of fixed size ("Expected all lists to be of size=2 but index 2 had size=0").
        """
        return _parsed(self._stored.replace(_ARROW_SCHEMA, _NO_SCHEMA))


def read_footer(stored: pa.NativeFile) -> Footer:
    """Read a footer: one read of a file, or two if it is large.

    Raises:
        OSError, pa.ArrowException: it is damaged.
    """
    size = stored.size()
    begin = max(0, size - _READ_BYTES)
    tail = stored.read_at(size - begin, begin)
    length = _footer_bytes(tail) + _TAIL_BYTES
    if tail[-len(_MAGIC) :] != _MAGIC or length > size:
        pq.read_metadata(stored)
        raise OSError("its footer is damaged")
    if length > len(tail):
        tail = stored.read_at(length - len(tail), size - length) + tail
    return _parsed(tail[-length:])


def open_parquet(stored: pa.NativeFile, footer: Footer) -> pq.ParquetFile:
    """Open a Parquet file; read INT96 timestamps as microseconds, so that every year fits."""
    return pq.ParquetFile(
        stored,
        metadata=footer.metadata,
        buffer_size=_BUFFER_BYTES,
        pre_buffer=False,
        coerce_int96_timestamp_unit="us",
    )


def _parsed(footer: bytes) -> Footer:
    metadata = pq.read_metadata(pa.BufferReader(_MAGIC + footer))
    # Footers of files with encrypted columns are not encrypted, but signed: the rest is longer.
    is_signed = metadata.serialized_size != _footer_bytes(footer)
    return Footer(metadata, None if is_signed else metadata, footer)


def _footer_bytes(tail: bytes) -> int:
    """Return the length of the footer, which is before the last bytes of a file."""
    return int.from_bytes(tail[-_TAIL_BYTES : -len(_MAGIC)], "little")
