"""Ids that several rows have, among more than are held in memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa

from bulkembed.transforms.dataset.duplicate_ids import DuplicateIds, id_keys

ROWS = 10_000_000
BLOCK = 100_000


def test_duplicates_among_many_ids_are_found_in_bounded_memory(tmp_path: Path) -> None:
    again = pa.array([7, ROWS // 2, ROWS - 1])
    tracemalloc.start()
    with DuplicateIds(tmp_path, ROWS) as ids:
        for start in range(0, ROWS, BLOCK):
            ids.add(pa.array(np.arange(start, start + BLOCK)))
        ids.add(again)
        ids.add(again)
        found = ids.duplicates()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.tolist() == sorted(id_keys(again).tolist())
    assert peak < ROWS * 8, "the memory grows with the ids"


def test_ids_of_both_kinds_and_without_a_value_are_compared(tmp_path: Path) -> None:
    with DuplicateIds(tmp_path, 6) as ids:
        ids.add(pa.array([-1, -2, None, -1]))
        ids.add(pa.array(["a", None, "b", "a"]))
        found = ids.duplicates()
    wanted = [*id_keys(pa.array([-1])).tolist(), *id_keys(pa.array(["a"])).tolist()]
    assert found.tolist() == sorted(wanted)
