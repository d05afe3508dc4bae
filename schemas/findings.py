"""What `bulkembed verify` may find wrong with a dataset."""

from __future__ import annotations

import dataclasses
import enum


class Check(enum.StrEnum):
    """What a finding is about."""

    UNFINISHED = "unfinished"
    """Rows of the plan are left, or `_SUCCESS` is not where it should be."""
    RECORD = "record"
    """A commit record is damaged, or covers rows that another one covers."""
    STRANGER = "stranger"
    """A file that no run left there, or that no commit record names."""
    MISSING = "missing"
    """A part that a commit record names is not there."""
    UNREADABLE = "unreadable"
    """A part is cut short or damaged."""
    SCHEMA = "schema"
    """A part has other columns or types than the dataset."""
    METADATA = "metadata"
    """A part's footer tells of another embedding than the dataset's."""
    COUNT = "count"
    """A part has more or fewer rows than its commit record says."""
    ROWS = "rows"
    """A row of the input is there twice, not at all, or in another unit's part."""
    PASSAGE = "passage"
    """The passages of a row are not there one after the other."""
    NOT_FINITE = "not_finite"
    """A vector holds NaN or infinity."""
    ZERO_VECTOR = "zero_vector"
    """All numbers of a vector are 0."""
    UNIT_LENGTH = "unit_length"
    """A vector's length is not 1, though it should be."""
    ID = "id"
    """An id is there more than once."""
    INPUT = "input"
    """The rows are not those of the input."""
    SAMPLE = "sample"
    """A row's vector is not the one that the service gives for its text now."""


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing that is wrong: what about, where, and a sentence for people."""

    check: Check
    where: str
    """A file of the dataset or of the input, as a name within it."""
    message: str
