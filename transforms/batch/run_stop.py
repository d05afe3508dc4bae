"""Whether a run must end, for its launcher, and waits that end with it."""

from __future__ import annotations

import time

from bulkembed.schemas.stop import Stop, StopReason
from bulkembed.transforms.dataset import worker_notes
from bulkembed.transforms.dataset.dataset import Dataset

CHECK_EVERY_S = 1.0
STORE_CHECK_EVERY_S = 5.0
"""Each check lists files, which a store bills, and a run may wait for a day."""
STEP_S = 0.2


class RunStop:
    """Whether a run must end, by the notes of all its processes.

    Args:
        dataset: the dataset of the run.
        run_id: the run.
    """

    def __init__(self, dataset: Dataset, run_id: str) -> None:
        self._dataset, self._run_id = dataset, run_id
        self._every_s = STORE_CHECK_EVERY_S if dataset.is_on_a_store else CHECK_EVERY_S
        self._checked_at = float("-inf")
        self._is_set = False

    def set(self, reason: StopReason, message: str) -> None:
        """End the run, and note why."""
        worker_notes.write_stop(self._dataset, self._run_id, Stop(reason, message, time.time()))
        self._is_set = True

    def is_set(self) -> bool:
        """Return whether the run must end; the notes are read every few seconds."""
        now = time.monotonic()
        if not self._is_set and now >= self._checked_at + self._every_s:
            self._checked_at = now
            self._is_set = bool(worker_notes.read_stops(self._dataset, self._run_id))
        return self._is_set

    def wait(self, seconds: float) -> None:
        """Wait some seconds, but not longer than the run may last."""
        ends_at = time.monotonic() + seconds
        while (left := ends_at - time.monotonic()) > 0 and not self.is_set():
            time.sleep(min(left, STEP_S))
