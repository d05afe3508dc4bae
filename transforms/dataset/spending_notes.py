"""What a dataset has cost in all runs whose processes cannot share a locked file.

On an object store, and on clusters, each process of a run overwrites a note of its own in
`_run/spending/`. At the end of a run the launcher adds the notes to `total.json`. It lists how
much of each note is included, so that nothing counts twice, whatever is killed: a note is deleted
only by a later run, and one that a late worker writes again counts with the difference.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
from collections.abc import Callable, Mapping

from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.serialization import Count, from_plain, to_plain
from bulkembed.transforms.core.spending_lease import SpendingNote, Spent
from bulkembed.transforms.dataset.dataset import READ_THREADS, Dataset
from bulkembed.transforms.dataset.layout import SPENDING

TOTAL = "total.json"
KEPT_NAMES = 100
"""How many deleted notes the total remembers, in case a worker writes one late."""
_SUFFIX = ".json"


@dataclasses.dataclass(frozen=True, slots=True)
class SpendingTotal:
    """The sum of notes."""

    spent: Spent = dataclasses.field(default_factory=Spent)
    counted: Mapping[str, Spent] = dataclasses.field(default_factory=dict)
    """What is included of each note, by its name."""
    first_run_number: Count = 0
    """Notes of earlier runs do not count: their dataset was overwritten, or `spent` has them."""

    def with_notes(self, notes: Mapping[str, SpendingNote]) -> SpendingTotal:
        """Return the total with what all notes that exist say now."""
        tokens, unconfirmed = self.spent.tokens, self.spent.unconfirmed
        counted = {}
        for name, note in notes.items():
            if run_number_of(name) >= self.first_run_number:
                before, now = self.counted.get(name, Spent()), note.spent
                tokens += now.tokens - before.tokens
                unconfirmed += now.unconfirmed - before.unconfirmed
                counted[name] = now
        deleted = sorted(self.counted.keys() - notes.keys())[-KEPT_NAMES:]
        kept = {name: self.counted[name] for name in deleted}
        return SpendingTotal(Spent(tokens, unconfirmed), kept | counted, self.first_run_number)

    @property
    def last_run(self) -> int:
        """The number of the last run that wrote a note; 0 if none is remembered."""
        return max(map(run_number_of, self.counted), default=0)

    def of_run(self, run_number: int) -> int:
        """Return the tokens of a run, as far as its notes are remembered."""
        return sum(
            spent.tokens
            for name, spent in self.counted.items()
            if run_number_of(name) == run_number
        )


def keeps_notes(dataset: Dataset, job: JobConfig) -> bool:
    """Return whether the processes of a run write notes, because they share no account."""
    return bool(job.run_number) and (job.account is None or dataset.is_on_a_store)


def note_name(job: JobConfig, process: str) -> str:
    """Return the name of the note of a process."""
    return f"{job.run_number:08d}-{job.run_id}-{process}{_SUFFIX}"


def run_number_of(name: str) -> int:
    """Return the number of the run in the name of a note; 0 if it is none."""
    number = name.partition("-")[0]
    return int(number) if number.isdecimal() and name.endswith(_SUFFIX) else 0


def write_note(dataset: Dataset, name: str, note: SpendingNote) -> None:
    """Overwrite the note of a process.

    Raises:
        OutputError: the note cannot be written.
    """
    dataset.write_json(f"{SPENDING}/{name}", to_plain(note))


def read_notes(dataset: Dataset) -> dict[str, SpendingNote]:
    """Return the notes of all processes by their names.

    Raises:
        OutputError: a note is damaged, or cannot be read.
    """
    names = [name for name in dataset.names(SPENDING) if run_number_of(name)]
    with concurrent.futures.ThreadPoolExecutor(READ_THREADS) as pool:
        found = pool.map(lambda name: _read(dataset, name), names)
        return {name: note for name, note in zip(names, found, strict=True) if note is not None}


def read_total(dataset: Dataset) -> SpendingTotal | None:
    """Return the total of notes; None if there is none yet.

    Raises:
        OutputError: it is damaged, or cannot be read.
    """
    content = dataset.read_json(f"{SPENDING}/{TOTAL}")
    try:
        return None if content is None else from_plain(content, SpendingTotal)
    except ValueError as error:
        raise dataset.damaged_file(f"{SPENDING}/{TOTAL}", str(error)) from None


def check_note(content: dict[str, object]) -> None:
    """Raise ValueError unless the content of a file is that of a note or of the total."""
    if "spent" in content:
        from_plain(content, SpendingTotal)
    else:
        from_plain(content, SpendingNote)


def start_total(dataset: Dataset, run_number: int, known: Callable[[], int]) -> None:
    """Write the total if there is none yet.

    Args:
        dataset: the dataset.
        run_number: of the run that starts now.
        known: returns the tokens that earlier runs cost, which have left no notes.

    Raises:
        OutputError: the total cannot be read or written.
    """
    if read_total(dataset) is None:
        total = SpendingTotal(Spent(known()), first_run_number=run_number)
        _write_total(dataset, total)


def add_notes(dataset: Dataset, run_number: int) -> SpendingTotal:
    """Add all notes to the total, and delete those of earlier runs that it had before.

    Args:
        dataset: the dataset; this process owns it.
        run_number: of this run, whose workers may still write.

    Raises:
        OutputError: a file cannot be read, written or deleted.
    """
    before = read_total(dataset) or SpendingTotal()
    notes = read_notes(dataset)
    total = before.with_notes(notes)
    if total != before:
        _write_total(dataset, total)
    dataset.delete(
        f"{SPENDING}/{name}"
        for name, note in notes.items()
        if run_number_of(name) < run_number
        and (before.counted.get(name) == note.spent or name not in total.counted)
    )
    return total


def _write_total(dataset: Dataset, total: SpendingTotal) -> None:
    dataset.write_json(f"{SPENDING}/{TOTAL}", to_plain(total))


def _read(dataset: Dataset, name: str) -> SpendingNote | None:
    """Return a note; None if it was deleted meanwhile."""
    content = dataset.read_json(f"{SPENDING}/{name}")
    try:
        return None if content is None else from_plain(content, SpendingNote)
    except ValueError as error:
        raise dataset.damaged_file(f"{SPENDING}/{name}", str(error)) from None
