"""The pipeline in a thread; signals, the deadline and the grace period in the main one."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable

from pipeline import signals
from schemas.job import JobConfig
from schemas.stop import Stop, StopReason
from transforms.engine.engine import running_engines
from transforms.storage import stop_notes
from transforms.storage.dataset import Dataset

LOOK_EVERY_S = 0.05
RESUME = "run the same command again to go on"


@dataclasses.dataclass(frozen=True, slots=True)
class Watch:
    """When a run is to end early.

    `grace_s` is how long calls in the air may take to come back once the run is to end;
    `deadline_s` how long the run may take; None: as long as it wants.
    """

    grace_s: float = 20.0
    deadline_s: float | None = None


def execute(pipeline: Callable[[], dict[str, int]], job: JobConfig, watch: Watch) -> dict[str, int]:
    """Runs the pipeline to its end, or to an end in good order, and gives its counters.

    Raises:
        Exception: whatever the pipeline raised, where it was not stopped on purpose.
    """
    worker = _Worker(pipeline)
    asked = threading.Event()
    names: list[str] = []

    def on_signal(name: str) -> None:
        names.append(name)
        asked.set()

    with signals.handled(on_signal):
        worker.start()
        ends_at = time.monotonic() + watch.deadline_s if watch.deadline_s else None
        aborts_at: float | None = None
        while worker.is_alive():
            worker.join(LOOK_EVERY_S)
            now = time.monotonic()
            if aborts_at is None and asked.is_set():
                aborts_at = now + watch.grace_s
                _stop(job, StopReason.SIGNAL, f"{names[0]}: ended in good order; {RESUME}")
            if aborts_at is None and ends_at is not None and now >= ends_at:
                aborts_at = now + watch.grace_s
                _stop(job, StopReason.DEADLINE, f"the deadline is reached; {RESUME}")
            if aborts_at is not None and now >= aborts_at:
                for engine in running_engines():
                    engine.abort()
    return worker.result()


def _stop(job: JobConfig, reason: StopReason, message: str) -> None:
    """Tells the engines of this process at once, and those of others by a note."""
    stop_notes.leave(Dataset.open(job.output.uri), job.run_id, Stop(reason, message))
    for engine in running_engines():
        engine.stop.set(reason, message)


class _Worker(threading.Thread):
    """A thread that keeps what its work gave or raised."""

    def __init__(self, work: Callable[[], dict[str, int]]) -> None:
        super().__init__(name="pipeline", daemon=True)
        self._work = work
        self._counters: dict[str, int] = {}
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._counters = self._work()
        except BaseException as error:
            self._error = error

    def result(self) -> dict[str, int]:
        if self._error is not None:
            raise self._error
        return self._counters
