"""Footers of Parquet files, and the files that they open."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from bulkembed.schemas.inputs import FoundFile
from bulkembed.transforms.inputs.stored_bytes import TAIL_BYTES

_BUFFER_BYTES = 1 << 20
_MAGIC = b"PAR1"
_TAIL_BYTES = 8
"""The end of a file: the length of its footer, and the magic bytes."""
_ARROW_SCHEMA, _NO_SCHEMA = b"ARROW:schema", b"-----:------"


@dataclasses.dataclass(frozen=True, slots=True)
class Footer:
    """The footer of a Parquet file."""

    metadata: pq.FileMetaData
    chunks: pq.FileMetaData | None
    """The same; None if columns are encrypted. Then pyarrow 25 ends the process where the metadata
    of such a column chunk is looked at (`RowGroupMetaData.column`). Reading the column raises.
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


def read_footer(stored: pa.NativeFile, tail: bytes = b"") -> Footer:
    """Read a footer: one read of a file, or two if it is large.

    Args:
        stored: the file.
        tail: its last bytes, if they are known.

    Raises:
        OSError, pa.ArrowException: it is damaged.
    """
    size = stored.size()
    tail = tail or read_tail(stored)
    length = _footer_bytes(tail) + _TAIL_BYTES
    if tail[-len(_MAGIC) :] != _MAGIC or length > size:
        pq.read_metadata(stored)
        raise OSError("its footer is damaged")
    if length > len(tail):
        tail = stored.read_at(length - len(tail), size - length) + tail
    return _parsed(tail[-length:])


@contextlib.contextmanager
def open_stored(filesystem: pafs.FileSystem, found: FoundFile) -> Iterator[pa.NativeFile]:
    """Open a file for reading at any place.

    A file that is not larger than what is read for a footer is read now, as a whole.
    """
    with filesystem.open_input_file(found.path) as stored:
        if found.size_bytes > TAIL_BYTES:
            yield stored
        else:
            yield pa.BufferReader(read_tail(stored))


def read_tail(stored: pa.NativeFile) -> bytes:
    """Read the end of a file, which has the footer unless it is large."""
    size = stored.size()
    begin = max(0, size - TAIL_BYTES)
    return bytes(stored.read_at(size - begin, begin))


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
