"""The contents of rows with media are known once their files are read."""

from __future__ import annotations

import numpy as np

from bulkembed.transforms.core.hashing import Keys
from bulkembed.transforms.dataset.row_contents import RowContents


def keys(*numbers: int) -> Keys:
    return np.array(numbers, np.uint64)


def expanded(contents: RowContents, *rows: int) -> tuple[list[int], list[int]]:
    found, counts = contents.expand(keys(*rows))
    return found.tolist(), counts.tolist()


def test_rows_have_their_own_key_until_they_are_read() -> None:
    contents = RowContents()
    assert expanded(contents, 5, 2**63) == ([5, 2**63], [1, 1])
    contents.add(5, [51, 52])
    contents.add(2**63, [])
    assert expanded(contents, 7, 5, 2**63, 5) == ([7, 51, 52, 51, 52], [1, 2, 0, 2])
    assert contents.knows(keys(5, 6)).tolist() == [True, False]
    assert expanded(contents) == ([], [])


def test_what_is_read_again_replaces_what_was_known_and_changes_are_counted() -> None:
    contents = RowContents()
    contents.add(5, [51])
    contents.add(6, [61])
    assert contents.read_again(keys(5, 6, 7)) == 2
    assert expanded(contents, 5, 6) == ([5, 6], [1, 1])
    assert (contents.add(5, [51]), contents.add(6, [62])) == (0, 1)
    assert expanded(contents, 5, 6) == ([51, 62], [1, 1])
    assert contents.read_again(keys(5, 5)) == 1
    assert contents.read_again(keys(5)) == 0
    assert contents.add(5, [51]) == 0
    assert contents.read_again(keys(6)) == 1
    assert contents.add(6, [61]) == 2
    assert contents.add(8, [81]) == 0


def test_what_was_saved_is_loaded_and_later_files_win() -> None:
    contents = RowContents()
    contents.add(5, [51, 52])
    first = contents.unsaved()
    contents.add(5, [53])
    contents.add(6, [])
    second = contents.unsaved()
    assert contents.unsaved() == b""
    loaded = RowContents()
    assert loaded.load(first)
    assert expanded(loaded, 5, 6) == ([51, 52, 6], [2, 1])
    assert loaded.load(second)
    assert expanded(loaded, 5, 6) == ([53], [1, 0])
    for damaged in (b"", first[:-1], second[:-1] + b"x"):
        assert not loaded.load(damaged)
    assert expanded(loaded, 5) == ([53], [1])


def test_rows_whose_own_key_is_that_of_their_content_are_not_kept() -> None:
    contents = RowContents()
    contents.add(5, [5])
    assert contents.unsaved() == b""
    contents.add(6, [])
    contents.read_again(keys(6))
    contents.add(6, [6])
    assert expanded(contents, 5, 6) == ([5, 6], [1, 1])
