"""Units of work, slices of units, and commit records."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.inputs import InputFile
from bulkembed.schemas.media import MediaTokens
from bulkembed.schemas.serialization import Count


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Unit:
    """Consecutive rows of one input file that are read, embedded and committed together."""

    file_key: str
    first_row: Count
    rows: Count

    @property
    def end_row(self) -> int:
        """The row after the last."""
        return self.first_row + self.rows

    def part(self, first_row: int, rows: int) -> Unit:
        """Return the unit of some of its rows."""
        return Unit(self.file_key, first_row, rows)


@dataclasses.dataclass(frozen=True, slots=True)
class FileUnits:
    """Units of one file, ordered by row."""

    file: InputFile
    units: tuple[Unit, ...]
    retry_of: tuple[UnitRecord, ...] = ()
    """The records of the same units, if only their dead letters are retried."""

    @property
    def rows(self) -> int:
        """Rows of all units."""
        return sum(unit.rows for unit in self.units)

    def part(self, start: int, end: int) -> FileUnits:
        """Return the units from one position to another."""
        return FileUnits(self.file, self.units[start:end], self.retry_of[start:end])


@dataclasses.dataclass(frozen=True, slots=True)
class PlanSlice:
    """Units that one worker gets together."""

    files: tuple[FileUnits, ...]
    known: str | None = None
    """The name of its list of known vectors; None if its units have none."""

    @property
    def rows(self) -> int:
        """Rows of all units of the slice."""
        return sum(file.rows for file in self.files)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FilePicks:
    """Single texts of one file: passages of its rows, of which most have only one."""

    file: InputFile
    rows: npt.NDArray[np.int64]
    """The row of each text, counted from 0, ascending; shape (n,)."""
    passages: npt.NDArray[np.int64]
    """The passage of its row that each text is, counted from 0; shape (n,)."""

    @property
    def texts(self) -> int:
        """The number of texts."""
        return len(self.rows)

    def part(self, start: int, end: int) -> FilePicks:
        """Return the texts from one position to another."""
        return FilePicks(self.file, self.rows[start:end], self.passages[start:end])


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SharedSlice:
    """Texts that several units share, and that one worker gets together."""

    name: str
    """Names the slice's files; unique in a run."""
    files: tuple[FilePicks, ...]
    stored: tuple[int, ...] = ()
    """The number of texts of each file, if they are not here but in a file; see `picks_file`."""


@dataclasses.dataclass(frozen=True, slots=True)
class GatherSlice:
    """Known vectors that one worker gathers before the units begin."""

    name: str
    """The name of its list of known vectors."""
    rows: int


@dataclasses.dataclass(frozen=True, slots=True)
class CallCounts:
    """Counts of the requests of a unit or a run; they can be added."""

    calls: int = 0
    """Requests that were answered with vectors.

    One with texts of several units is counted by the first of them, so a unit may have 0.
    """
    retried: int = 0
    """Retried requests, and parts of requests that were split."""
    texts: int = 0
    """Texts that were answered with vectors: these are billed."""
    tokens: int = 0
    """Tokens as the service counts them; estimated if it gives no count."""
    repeated: int = 0
    """Duplicate rows, which got the vector of another row.

    A unit counts all rows whose text was sent before it. The counts of shared texts subtract the
    texts that were sent for that. So only the sum over a run or a dataset is meaningful.
    """

    reused: int = 0
    """Texts of rows that got a vector that an earlier run or another dataset had committed; they
    are not among `repeated`."""
    image_tokens: int = 0
    """How many of `tokens` are of images, and of pages of PDF files."""
    audio_tokens: int = 0
    video_tokens: int = 0

    @property
    def media(self) -> MediaTokens:
        """How many of the tokens are of media."""
        return MediaTokens(self.image_tokens, self.audio_tokens, self.video_tokens)

    def __add__(self, other: CallCounts) -> CallCounts:
        return CallCounts(
            *(
                getattr(self, field.name) + getattr(other, field.name)
                for field in dataclasses.fields(CallCounts)
            )
        )


class PartSpan(NamedTuple):
    """Consecutive rows of a part, one at least."""

    name: str
    """The part's name within `vectors/` or within the dataset."""
    first_row: int
    rows: int


@dataclasses.dataclass(frozen=True, slots=True)
class GroupPlace:
    """Where the rows of a unit are in the merged parts of a group."""

    record: str
    """The file name of the group's record."""
    first_vectors: tuple[Count, ...]
    """The first of its rows in each of its vector parts; they are consecutive."""
    first_dead: Count
    """The first of its rows in the part with dead letters."""


@dataclasses.dataclass(frozen=True, slots=True)
class UnitRecord:
    """The commit record of a unit: the rows that it covers, and their results.

    rows == embedded + dead + skipped + removed. `generation` counts how often the same rows were
    committed again (a retry of dead letters, or a copy without removed rows); within a run number
    the highest one counts.
    """

    unit: Unit
    embedded: Count
    dead: Count
    skipped: Count
    generation: Count = 0
    source_file: str = ""
    run_id: str = ""
    codes: tuple[tuple[DeadCode, Count], ...] = ()
    counts: CallCounts = dataclasses.field(default_factory=CallCounts)
    vector_parts: tuple[str, ...] = ()
    dead_part: str | None = None
    vectors: Count = 0
    """Rows of the vector parts: more than `embedded` if they are passages. The name of the record
    does not have it."""
    is_partitioned: bool = False
    """Whether its vector parts are in folders of partitions: the name of the record says so."""
    part_rows: tuple[Count, ...] = ()
    """Rows of each vector part, if it is partitioned."""
    seconds: float = 0.0
    """From the moment its rows are in memory to its commit, waiting included; 0 if not measured.
    Of the time of small files that were committed together, each unit has a share by its rows."""
    part_bytes: Count | None = None
    """The size of all its parts, including those that a retry took over; see `Dataset.sized_parts`.
    None in records of older versions."""
    run_number: Count = 0
    """The number of the run that committed it; later runs have larger numbers. 0: unknown."""
    embedding_digest: str = ""
    """The digest of the settings of its vectors. Empty: the pinned settings."""
    removed: Count = 0
    """Rows that were removed after they had been committed."""
    place: GroupPlace | None = None
    """Its place in the parts of a group; None if its parts have no rows of other units."""

    def __post_init__(self) -> None:
        if self.unit.rows != self.embedded + self.dead + self.skipped + self.removed:
            raise ValueError(f"rows do not add up: {self}")

    def spans(self) -> Iterator[PartSpan]:
        """Yield where the rows with vectors of a unit of a group are."""
        assert self.place is not None
        rows = self.part_rows if self.is_partitioned else (self.vectors,) * len(self.vector_parts)
        for span in zip(self.vector_parts, self.place.first_vectors, rows, strict=True):
            yield PartSpan(*span)

    def in_parts(self, rows_of: Mapping[str, int]) -> UnitRecord:
        """Return the record with other vector parts, of which the numbers of rows are given."""
        return dataclasses.replace(
            self,
            vector_parts=tuple(rows_of),
            part_rows=tuple(rows_of.values()) if self.is_partitioned else (),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class GroupRecord:
    """The commit record of units whose rows are in merged parts; see `transforms.dataset.groups`.

    Of several records with one key only the newest counts: it replaces the others.
    """

    key: str
    members: tuple[UnitRecord, ...]
    """The records of the units, in the order of their rows in the parts, each with its `place`."""
    generation: Count = 0
    run_id: str = ""
    run_number: Count = 0
    embedding_digest: str = ""
    part_bytes: Count = 0
    """The size of both parts."""

    @property
    def age(self) -> tuple[int, int]:
        """The run number and the generation: the largest is the newest."""
        return self.run_number, self.generation


PartsRecord: TypeAlias = UnitRecord | GroupRecord
"""A record that has parts of its own: of a single unit, or of a group."""


def count_codes(codes: list[DeadCode]) -> tuple[tuple[DeadCode, int], ...]:
    """Return how often each code occurs, ordered by name."""
    return tuple(sorted(collections.Counter(codes).items()))
