"""Results of batch jobs for benchmarks: made while they are downloaded, from prepared vectors."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson

from bulkembed.emulator.batch_rows import CHUNK, RowTable
from bulkembed.emulator.canned import TOKENS_PER_TEXT
from bulkembed.emulator.targets import Target

_VECTORS = 64
"""Row `r` gets prepared vector `r % 64`."""


class CannedResults:
    """The bytes of a result file, of which only the length of each line is kept.

    Only the keys of the input are read, and the dim of its first row.
    """

    def __init__(self, target: Target, table: RowTable) -> None:
        self._table = table
        self._answers = _answers(_dim(target, table))
        ends, end = np.empty(len(table), dtype=np.int64), 0
        for start in range(0, len(table), CHUNK):
            for row, head in self._heads(range(start, min(start + CHUNK, len(table)))):
                end += len(head) + len(self._answers[row % _VECTORS])
                ends[row] = end
        self._ends: Any = ends
        self.size = end

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from `start` to before `end`."""
        row = bisect.bisect_right(self._ends, start)
        at = int(self._ends[row - 1]) if row else 0
        while at < end:
            lines = self._heads(range(row, min(row + CHUNK, len(self._table))))
            piece = b"".join(part for r, head in lines for part in (head, self._answer(r)))
            yield piece[max(0, start - at) : end - at]
            at += len(piece)
            row += CHUNK

    def delete(self) -> None:
        """Free nothing: the lines of the input belong to the job."""

    def _answer(self, row: int) -> bytes:
        return self._answers[row % _VECTORS]

    def _heads(self, rows: range) -> Iterator[tuple[int, bytes]]:
        for row, line in zip(rows, self._table.lines(rows), strict=True):
            value = orjson.loads(line)
            head = {"metadata": value["metadata"]} if "metadata" in value else {"key": value["key"]}
            yield row, orjson.dumps(head)[:-1]


def _answers(dim: int) -> list[bytes]:
    """Return the ends of the prepared lines."""
    vectors = np.random.default_rng(dim).standard_normal((_VECTORS, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [
        b',"response":'
        + orjson.dumps(
            {"embedding": {"values": vector}, "tokenCount": TOKENS_PER_TEXT},
            option=orjson.OPT_SERIALIZE_NUMPY,
        )
        + b"}\n"
        for vector in vectors.astype(np.float32)
    ]


def _dim(target: Target, table: RowTable) -> int:
    request = orjson.loads(table.lines([0])[0])["request"]
    for options in (request, request.get("embedContentConfig", {})):
        for name in ("outputDimensionality", "output_dimensionality"):
            if name in options:
                return int(options[name])
    return target.spec.default_dim
