"""A part whose size is known, which is read from a store by fewer requests.

Arrow asks a store for the size of each file that it opens. A fragment of one of its datasets can
be given the size, so that reading takes one request for the footer, and one for each range of
neighboring columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq


class SizedPart:
    """An open part, with the methods of `pyarrow.parquet.ParquetFile` that readers of parts use.

    Reading a page verifies its checksum. One row group is read at a time.

    Args:
        filesystem: its file system.
        path: its path there.
        size_bytes: the size of the file.

    Raises:
        OSError, pyarrow.ArrowException: its footer cannot be read, or it has another size.
    """

    def __init__(self, filesystem: pafs.FileSystem, path: str, size_bytes: int) -> None:
        import pyarrow.dataset as pads  # It imports pandas if that is installed: 0.7 s.

        options = pads.ParquetFragmentScanOptions(pre_buffer=True, page_checksum_verification=True)
        parquet = pads.ParquetFileFormat(default_fragment_scan_options=options)
        self._fragment = parquet.make_fragment(path, filesystem, file_size=size_bytes)
        self.metadata: pq.FileMetaData = self._fragment.metadata
        self.schema_arrow: pa.Schema = self._fragment.physical_schema

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left open between reads."""

    @property
    def num_row_groups(self) -> int:
        """The number of its row groups."""
        return int(self.metadata.num_row_groups)

    def read_row_group(
        self, number: int, columns: Sequence[str] | None = None, *, use_threads: bool = False
    ) -> pa.Table:
        """Return columns of one row group."""
        return self._group(number).to_table(columns=_names(columns), use_threads=use_threads)

    def iter_batches(
        self,
        batch_size: int,
        row_groups: Sequence[int] | None = None,
        columns: Sequence[str] | None = None,
        *,
        use_threads: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """Yield columns of row groups in batches."""
        numbers = range(self.num_row_groups) if row_groups is None else row_groups
        for number in numbers:
            yield from self._group(number).to_batches(
                columns=_names(columns), batch_size=batch_size, use_threads=use_threads
            )

    def _group(self, number: int) -> Any:
        return self._fragment.subset(row_group_ids=[number])


def _names(columns: Sequence[str] | None) -> list[str] | None:
    return None if columns is None else list(columns)
