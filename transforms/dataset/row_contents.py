"""Which contents rows with media have, as far as that is known only once their files are read.

A search knows the key of a row: the hash of its texts, its bytes of media, and its paths and URIs.
The contents that are sent differ from that if files are read, if long media is cut into pieces, or
if the media cannot be sent.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from bulkembed.transforms.core.hashing import Keys, among

NO_CONTENT = 0
"""Stands for the contents of a row that cannot be sent."""
_PAIR = np.dtype([("row", "<u8"), ("content", "<u8")])
_HEADER = struct.Struct("<8sQI")
_MAGIC = b"BEROWCO1"

Pairs = npt.NDArray[Any]
"""Shape (n,), type _PAIR: a row has as many as it has contents, in order, or one of NO_CONTENT."""


class RowContents:
    """The keys of the contents of rows, by the keys of the rows. Rows may be added again."""

    def __init__(self) -> None:
        # Each in one piece: a search in a field of pairs would copy it.
        self._rows = np.empty(0, np.uint64)
        self._contents = np.empty(0, np.uint64)
        self._added: dict[int, tuple[int, ...]] = {}
        self._unsaved: set[int] = set()
        self._stale: set[int] = set()
        self._stale_keys: Keys | None = None
        """The same, ascending; None if it has changed."""
        self._changes: dict[int, int] = {}

    def add(self, row: int, contents: Sequence[int]) -> int:
        """Note the contents of a row that was read; return how often they have changed.

        Args:
            row: its key.
            contents: their keys; none if the row cannot be sent.
        """
        contents = tuple(contents) or (NO_CONTENT,)
        if row in self._stale:
            self._changes[row] = self._changes.get(row, 0) + (self._before(row) != contents)
            self._stale.remove(row)
            self._stale_keys = None
        elif contents == (row,):
            return self._changes.get(row, 0)  # Its bytes are in the input, so its key is right.
        self._added[row] = contents
        self._unsaved.add(row)
        return self._changes.get(row, 0)

    def expand(self, rows: Keys) -> tuple[Keys, npt.NDArray[np.int64]]:
        """Return the keys of the contents of rows, and how many each row has.

        A row whose contents are not known has its own key.
        """
        low, found = self._places(rows)
        is_known = found > 0
        counts = np.maximum(found, 1)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        at = np.minimum(np.repeat(low, counts) + within, max(0, len(self._rows) - 1))
        keys: Keys = np.repeat(rows, counts)
        if len(self._rows):
            keys = np.where(np.repeat(is_known, counts), self._contents[at], keys)
        is_sent = keys != NO_CONTENT
        owner = np.repeat(np.arange(len(rows)), counts)
        return keys[is_sent], np.bincount(owner[is_sent], minlength=len(rows))

    def knows(self, rows: Keys) -> npt.NDArray[np.bool_]:
        """Return the rows whose contents are known, (n,)."""
        return self._places(rows)[1] > 0

    def read_again(self, rows: Keys) -> int:
        """Let rows be read again, as their files may have changed; return how many were known."""
        known = set(rows[self._known_places(rows)[1] > 0].tolist()) - self._stale
        self._stale |= known
        self._stale_keys = None
        return len(known)

    def unsaved(self) -> bytes:
        """Return what was added since the last call, for `load`; nothing if it is empty."""
        self._merge()
        is_new = among(self._rows, _sorted(self._unsaved))
        self._unsaved.clear()
        some = np.empty(int(is_new.sum()), _PAIR)
        some["row"], some["content"] = self._rows[is_new], self._contents[is_new]
        data = some.tobytes()
        return _HEADER.pack(_MAGIC, len(some), isal_zlib.crc32(data)) + data if data else b""

    def load(self, content: bytes) -> bool:
        """Add what `unsaved` gave; return False, and add nothing, if it is damaged."""
        data = content[_HEADER.size :]
        if len(content) < _HEADER.size:
            return False
        magic, count, checksum = _HEADER.unpack_from(content)
        if magic != _MAGIC or len(data) != count * _PAIR.itemsize:
            return False
        if isal_zlib.crc32(data) != checksum:
            return False
        self._merge()
        self._put(np.frombuffer(data, _PAIR))
        return True

    def _places(self, rows: Keys) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the same as `_known_places`, but no contents of rows that are to be read again."""
        if self._stale_keys is None:
            self._stale_keys = _sorted(self._stale)
        low, counts = self._known_places(rows)
        return low, np.where(among(rows, self._stale_keys), 0, counts)

    def _known_places(self, rows: Keys) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return where the contents of rows begin in `_contents`, and how many there are; (n,)."""
        self._merge()
        low, high = (np.searchsorted(self._rows, rows, side=side) for side in ("left", "right"))
        return low, high - low

    def _before(self, row: int) -> tuple[int, ...]:
        if row in self._added:
            return self._added[row]
        one = np.uint64(row)
        low, high = (int(self._rows.searchsorted(one, side=s)) for s in ("left", "right"))
        return tuple(self._contents[low:high].tolist())

    def _merge(self) -> None:
        if self._added:
            pairs = [(row, one) for row, contents in self._added.items() for one in contents]
            self._added.clear()
            self._put(np.array(pairs, _PAIR))

    def _put(self, pairs: Pairs) -> None:
        kept = ~among(self._rows, np.unique(pairs["row"]))
        rows = np.concatenate([self._rows[kept], pairs["row"]])
        contents = np.concatenate([self._contents[kept], pairs["content"]])
        order = np.argsort(rows, kind="stable")
        self._rows, self._contents = rows[order], contents[order]


def _sorted(numbers: Iterable[int]) -> Keys:
    return np.array(sorted(numbers), np.uint64)
