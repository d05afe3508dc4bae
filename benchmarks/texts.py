"""The texts of the benchmarks: the distinct docstrings of Python's standard library."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bulkembed.pipeline.demo.corpus import docstrings


class Texts:
    """Writes inputs of any size from one reading of the corpus."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._distinct = list(dict.fromkeys(one.text for one in docstrings() if one.text.strip()))

    @property
    def distinct(self) -> int:
        """Number of distinct texts in the corpus."""
        return len(self._distinct)

    def some(self, count: int) -> list[str]:
        """Return distinct texts."""
        return list(itertools.islice(self._endless(), count))

    def write(self, name: str, rows: int | None = None, first: int = 0) -> Path:
        """Write a Parquet file of `rows` texts from number `first` on, or of the whole corpus.

        After the end of the corpus it repeats, with a number before each text, so that all texts
        are distinct: a job sends equal texts once.
        """
        path = self._folder / f"{name}.parquet"
        texts = list(itertools.islice(self._endless(), first, first + (rows or self.distinct)))
        table = pa.table({"id": range(first, first + len(texts)), "text": texts})
        pq.write_table(table, path)
        return path

    def write_short(self, name: str, rows: int, chars: int) -> Path:
        """Write a Parquet file of `rows` distinct texts of at most about `chars` characters."""
        path = self._folder / f"{name}.parquet"
        with pq.ParquetWriter(path, pa.schema([("id", pa.int64()), ("text", pa.string())])) as file:
            for at in range(0, rows, 100_000):
                ids = range(at, min(at + 100_000, rows))
                count = self.distinct
                texts = [f"{n}: {self._distinct[n % count][:chars]}" for n in ids]
                file.write_table(pa.table({"id": ids, "text": texts}, schema=file.schema))
        return path

    def _endless(self) -> Iterator[str]:
        yield from self._distinct
        for turn in itertools.count(2):
            yield from (f"{turn}. {text}" for text in self._distinct)
