"""Vectors that are already paid for, found by the hashes of their texts.

A unit sees one interface: the answers kept from an interrupted run (`kept_answers`), and the rows
of committed parts that the launcher has found for it (`known_places`, `slice_vectors`). A source
is read in place and in bounded blocks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from bulkembed.transforms.core.hashing import Keys, keys
from bulkembed.transforms.core.vectors import Matrix


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class VectorBlock:
    """Vectors that a source has read, n of them."""

    hashes: Sequence[bytes]
    """The text hash of each vector."""
    vectors: Matrix
    """Shape (n, dim)."""
    truncated: Sequence[bool | None]
    """Whether the service cut each text; None if unknown."""
    of_other_rows: bool = True
    """Whether the vectors were paid for by other rows: a row that gets one counts as repeated."""
    committed: bool = False
    """Whether an earlier run has committed the vectors: a row that gets one counts as reused."""


class Matches(Protocol):
    """The wanted texts that one source has; their vectors are read by `read` only."""

    def __len__(self) -> int:
        """Return the number of matches."""

    @property
    def keys(self) -> Keys:
        """The keys of the matches, ascending and distinct."""

    def hashes(self) -> Iterator[bytes]:
        """Yield the text hash of each match, without reading its vector."""

    def read(self) -> Iterator[VectorBlock]:
        """Yield the vectors in the order in which the source stores them.

        A vector that cannot be read any more is left out: its text is sent again.
        """


class KnownVectors(Protocol):
    """A source of vectors that are already paid for."""

    def read(self, wanted: Keys) -> Iterator[VectorBlock]:
        """Yield the vectors of wanted texts that this source has, in the order of the source.

        Two texts may have one key, which is half of their hash. So a block may have texts that
        are not wanted. A vector that cannot be read any more is left out: its text is sent again.

        Args:
            wanted: the keys of texts, as `hashing.keys` gives them, ascending and distinct.

        Raises:
            OutputError: the source cannot be read.
        """


class SearchedVectors(KnownVectors, Protocol):
    """A source of known vectors that is searched without reading them."""

    def find(self, wanted: Keys) -> Matches:
        """Return the wanted texts that this source has; see `KnownVectors.read`."""


def known_hashes(source: SearchedVectors, hashes: Sequence[bytes]) -> set[bytes]:
    """Return those of some text hashes that a source has."""
    return set(hashes).intersection(source.find(distinct_keys(hashes)).hashes())


def distinct_keys(hashes: Sequence[bytes]) -> Keys:
    """Return the keys of text hashes, ascending and distinct."""
    return np.unique(keys(hashes))
