"""Work units, slices of them, and the records of what was committed."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
import numpy.typing as npt

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.inputs import InputFile
from bulkembed.schemas.serialization import Count


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Unit:
    """A run of rows of one input file: what is read, embedded and committed together."""

    file_key: str
    first_row: Count
    rows: Count

    @property
    def end_row(self) -> int:
        """The row after the last."""
        return self.first_row + self.rows

    def part(self, first_row: int, rows: int) -> Unit:
        """The unit of some of its rows."""
        return Unit(self.file_key, first_row, rows)


@dataclasses.dataclass(frozen=True, slots=True)
class FileUnits:
    """Units of one file, in order of rows."""

    file: InputFile
    units: tuple[Unit, ...]
    redo: tuple[UnitRecord, ...] = ()
    """The records of the same units, where only their dead letters are to be tried again."""

    @property
    def rows(self) -> int:
        """Rows of all units."""
        return sum(unit.rows for unit in self.units)

    def part(self, start: int, end: int) -> FileUnits:
        """The units from one position to another."""
        return FileUnits(self.file, self.units[start:end], self.redo[start:end])


@dataclasses.dataclass(frozen=True, slots=True)
class PlanSlice:
    """Units that are handed out together to one worker."""

    files: tuple[FileUnits, ...]

    @property
    def rows(self) -> int:
        """Rows of all units of the slice."""
        return sum(file.rows for file in self.files)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FilePicks:
    """Single texts of one file: passages of rows, which have one as a rule."""

    file: InputFile
    rows: npt.NDArray[np.int64]
    """Of each text, ascending, counted from the file's first row, 0; shape (n,)."""
    passages: npt.NDArray[np.int64]
    """Which passage of its row each text is, from 0; shape (n,)."""

    @property
    def texts(self) -> int:
        """How many there are."""
        return len(self.rows)

    def part(self, start: int, end: int) -> FilePicks:
        """The texts from one position to another."""
        return FilePicks(self.file, self.rows[start:end], self.passages[start:end])


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SharedSlice:
    """Rows whose texts several units share, handed out together to one worker."""

    name: str
    """Names the slice's files; no two of a run have the same."""
    files: tuple[FilePicks, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class CallCounts:
    """What the calls of a unit, or of a run, came to; they add up."""

    calls: int = 0
    """Calls that were answered with vectors."""
    retried: int = 0
    """Calls sent again, and pieces of calls that were split."""
    texts: int = 0
    """Texts that were answered with vectors: what is paid for."""
    tokens: int = 0
    """Tokens by the service's count, estimated where it gives none."""
    repeated: int = 0
    """Rows that share a vector with another row instead of being sent.

    Units count all rows whose text was sent before them; the texts sent for that are taken off
    where they are counted, so that only the sum over a run, or a dataset, says how many.
    """

    def __add__(self, other: CallCounts) -> CallCounts:
        return CallCounts(
            *(
                getattr(self, field.name) + getattr(other, field.name)
                for field in dataclasses.fields(CallCounts)
            )
        )


@dataclasses.dataclass(frozen=True, slots=True)
class UnitRecord:
    """What says that a unit is done: the rows it covers and where each of them went.

    rows == embedded + dead + skipped.  `generation` counts how often the same rows were committed
    again (a retry of dead letters); the highest one of a run number counts.
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
    """Rows of the vector parts, more than embedded where they are passages; the name has it not."""
    seconds: float = 0.0
    """From its rows in memory to its commit, waiting included; 0 where nobody took the time."""
    part_bytes: Count | None = None
    """Of all its parts, also those that a retry took over; see `Dataset.sized_parts`.  None: an
    older version wrote it."""
    run_number: Count = 0
    """The number of the run that committed the unit; later runs have larger ones.  0: unknown."""
    embedding_digest: str = ""
    """The digest of the settings that made its vectors.  Empty: unknown, those that are pinned."""

    def __post_init__(self) -> None:
        if self.unit.rows != self.embedded + self.dead + self.skipped:
            raise ValueError(f"rows do not add up: {self}")


def count_codes(codes: list[DeadCode]) -> tuple[tuple[DeadCode, int], ...]:
    """How often each code occurs, in the order of their names."""
    return tuple(sorted(collections.Counter(codes).items()))
