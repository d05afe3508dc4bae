"""The cost of runs whose processes share no account: notes, and their total."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.jobs import a_job

from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.job import JobConfig
from bulkembed.transforms.core.spending_lease import SpendingNote, Spent
from bulkembed.transforms.dataset import spending_notes
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import SPENDING
from bulkembed.transforms.dataset.spending_notes import SpendingTotal


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset.open(str(tmp_path))


def run_of(number: int) -> JobConfig:
    return a_job(run_id=f"2026112{number}T000000Z-abcdef", run_number=number)


def write(dataset: Dataset, number: int, process: str = "a", **tokens: int) -> str:
    name = spending_notes.note_name(run_of(number), process)
    spending_notes.write_note(dataset, name, SpendingNote(**tokens))
    return name


def life(dataset: Dataset) -> Spent:
    """What a reader sees, who writes nothing."""
    total = spending_notes.read_total(dataset) or SpendingTotal()
    return total.with_notes(spending_notes.read_notes(dataset)).spent


def test_each_note_counts_once_however_often_it_is_added(dataset: Dataset) -> None:
    spending_notes.start_total(dataset, 1, lambda: 1000)
    write(dataset, 1, tokens=10, ahead=5)
    write(dataset, 1, "b", tokens=20, unconfirmed=3)
    for _ in range(3):
        assert life(dataset) == Spent(1035, 8)
        assert spending_notes.add_notes(dataset, 1).spent == Spent(1035, 8)
    write(dataset, 1, tokens=12)
    assert spending_notes.add_notes(dataset, 1).spent == Spent(1032, 3)


def test_notes_are_deleted_by_a_later_run_once_they_are_in_the_total(dataset: Dataset) -> None:
    spending_notes.start_total(dataset, 1, lambda: 0)
    one = write(dataset, 1, tokens=10)
    spending_notes.add_notes(dataset, 1)
    two = write(dataset, 2, tokens=7)
    spending_notes.add_notes(dataset, 2)
    assert dataset.names(SPENDING) == [two, spending_notes.TOTAL]
    late = write(dataset, 1, tokens=15)  # A worker of the first run was still running.
    assert late == one
    assert life(dataset) == Spent(22)
    for number in (3, 4):
        assert spending_notes.add_notes(dataset, number).spent == Spent(22)
    assert dataset.names(SPENDING) == [spending_notes.TOTAL]
    assert spending_notes.add_notes(dataset, 5).of_run(2) == 7


def test_notes_of_an_overwritten_dataset_do_not_count(dataset: Dataset) -> None:
    write(dataset, 4, tokens=1000)
    spending_notes.start_total(dataset, 5, lambda: 0)
    write(dataset, 5, tokens=3)
    assert life(dataset) == Spent(3)
    assert spending_notes.add_notes(dataset, 5).spent == Spent(3)
    assert spending_notes.run_number_of(dataset.names(SPENDING)[0]) == 5


def test_the_total_is_started_once(dataset: Dataset) -> None:
    spending_notes.start_total(dataset, 1, lambda: 5)

    def never() -> int:
        raise AssertionError("this reads all records")

    spending_notes.start_total(dataset, 2, never)


@given(st.data())
def test_a_total_equals_the_sum_of_what_processes_noted_last(data: Any) -> None:
    """Folds may happen between any two notes, and delete those of earlier runs."""
    total, notes, last = SpendingTotal(), {}, {}
    for number in range(1, data.draw(st.integers(1, 6)) + 1):
        for _ in range(data.draw(st.integers(0, 6))):
            run = data.draw(st.integers(max(1, number - 1), number))
            name = spending_notes.note_name(run_of(run), data.draw(st.sampled_from("ab")))
            notes[name] = last[name] = SpendingNote(data.draw(st.integers(0, 99)))
            if data.draw(st.booleans()):
                before, total = total, total.with_notes(notes)
                notes = {
                    name: note
                    for name, note in notes.items()
                    if spending_notes.run_number_of(name) >= number
                    or before.counted.get(name) != note.spent
                }
    assert total.with_notes(notes).spent.tokens == sum(note.tokens for note in last.values())


@pytest.mark.parametrize("name", [spending_notes.TOTAL, "00000001-x-a.json"])
def test_a_damaged_file_is_named(dataset: Dataset, name: str) -> None:
    dataset.write(f"{SPENDING}/{name}", b'{"tokens": -1, "spent": {"tokens": -1}}')
    with pytest.raises(OutputError, match=f"{name} is damaged"):
        life(dataset)
