"""The ids of runs sort by the times at which they were made."""

from __future__ import annotations

import re
import time

from bulkembed.transforms.dataset.run_file import new_run_id


def test_runs_that_start_within_a_second_sort_by_their_start() -> None:
    made = []
    for _ in range(20):
        made.append(new_run_id())
        time.sleep(0.0015)
    assert made == sorted(made)
    assert all(re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{6}", run_id) for run_id in made)
