"""What workers get that compare a synchronised dataset with its input."""

from __future__ import annotations

import dataclasses

from bulkembed.schemas.inputs import InputFile


@dataclasses.dataclass(frozen=True, slots=True)
class CommittedPart:
    """A part of a dataset."""

    number: int
    """Its position among the parts of the state, of which the places of its rows are made."""
    record: int
    """The position of its record among those of the state."""
    name: str
    is_letters: bool
    age: int
    """Grows with each later commit."""
    rows: int = 0
    """The input rows of its record."""
    size_bytes: int | None = None
    """On a store, the size of its file, if it is known."""


@dataclasses.dataclass(frozen=True, slots=True)
class PartSlice:
    """Parts that one worker reads."""

    parts: tuple[CommittedPart, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class InputPiece:
    """Consecutive rows of one input file."""

    file: InputFile
    number: int
    """The position of the file in the input, of which the places of its rows are made."""
    first_row: int
    rows: int
    remaining: tuple[tuple[int, int], ...]
    """The ranges of these rows that no commit record covers."""


@dataclasses.dataclass(frozen=True, slots=True)
class InputSlice:
    """Rows of the input that one worker reads."""

    number: int
    pieces: tuple[InputPiece, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class StagedSlice:
    """What a worker has staged of a slice."""

    shards: tuple[InputFile, ...]
    whole: tuple[int, ...]
    """The positions of its pieces of which all remaining rows are to be sent: they are not staged,
    but read as they are."""
