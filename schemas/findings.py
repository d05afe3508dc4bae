"""The kinds of problems that `bulkembed verify` reports."""

from __future__ import annotations

import dataclasses
import enum


class Check(enum.StrEnum):
    """The kind of a finding. The values occur in docs and in other programs."""

    UNFINISHED = "unfinished"
    """Rows of the plan are remaining, or `_SUCCESS` is missing or wrong."""
    RECORD = "record"
    """A commit record is damaged, or covers the rows of another one."""
    FOREIGN = "foreign"
    """A file that no commit record names."""
    MANIFEST = "manifest"
    """The manifest is damaged, or names parts that no commit record names."""
    MISSING = "missing"
    """A part that a commit record names is missing."""
    UNREADABLE = "unreadable"
    """A part is truncated or damaged."""
    SCHEMA = "schema"
    """A part has other columns or types than the dataset."""
    METADATA = "metadata"
    """A part's footer has other embedding settings than the dataset."""
    COUNT = "count"
    """A part has more or fewer rows than its commit record says."""
    ROWS = "rows"
    """An input row is missing, occurs twice, or is in the part of another unit."""
    PASSAGE = "passage"
    """The passages of a row are missing or out of order."""
    NOT_FINITE = "not_finite"
    """A vector holds NaN or infinity."""
    ZERO_VECTOR = "zero_vector"
    """All elements of a vector are 0."""
    UNIT_LENGTH = "unit_length"
    """A vector does not have unit length, but should."""
    ID = "id"
    """Several rows have the same id."""
    INPUT = "input"
    """The dataset differs from the input."""
    SAMPLE = "sample"
    """A row's vector differs from the vector that the service returns now."""


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One problem: its kind, its place, and a sentence for people."""

    check: Check
    where: str
    """A file of the dataset or of the input, as a name within it."""
    message: str
