"""The pipeline in a thread; signals, the deadline and the grace period in the main one."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import signal
import threading
import time
from collections.abc import Callable

from bulkembed.pipeline.progress.progress import Progress
from bulkembed.pipeline.runners import signals
from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.stop import ExitCode, Stop, StopReason
from bulkembed.transforms.dataset import worker_notes
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.units.engine import running_engines

log = logging.getLogger("bulkembed")

LOOK_EVERY_S = 0.05
RESUME = "run the same command again to go on"


@dataclasses.dataclass(frozen=True, slots=True)
class Watch:
    """When a run is to end early.

    `shutdown_timeout_s` is how long calls in flight may take to come back once the run is to end
    (the engines see to that); `commit_s` how long the commits of finished rows may take after that,
    such as uploads to a store; `ends_at` when the run must end, by `time.monotonic`; None: never.
    """

    shutdown_timeout_s: float = 20.0
    commit_s: float = 60.0
    ends_at: float | None = None


def execute(
    pipeline: Callable[[], dict[str, int]], job: JobConfig, watch: Watch, progress: Progress
) -> dict[str, int]:
    """Runs the pipeline to its end, or to an end in good order, and gives its counters.

    Args:
        pipeline: the work, in a thread of its own.
        job: what the workers are told.
        watch: when to end early.
        progress: shown meanwhile, and closed.

    Raises:
        Exception: whatever the pipeline raised, where it was not stopped on purpose.
    """
    worker = _Worker(pipeline)
    asked = threading.Event()
    names: list[str] = []

    def on_signal(name: str) -> None:
        names.append(name)
        asked.set()

    def end(code: int) -> None:
        progress.close()
        signals.exit_now(code)

    def on_second_signal(code: int) -> None:
        progress.when_drawn(lambda: end(code))

    with signals.handled(on_signal, on_second_signal), progress:
        worker.start()
        stopped_at: float | None = None
        while worker.is_alive():
            worker.join(LOOK_EVERY_S)
            progress.tick()
            now = time.monotonic()
            if stopped_at is not None:
                if now >= stopped_at + watch.shutdown_timeout_s + watch.commit_s:
                    progress.close()
                    _give_up()
            elif asked.is_set():
                stopped_at = now
                progress.ending = names[0]
                _stop(job, StopReason.SIGNAL, f"{names[0]}: ended in good order; {RESUME}")
            elif watch.ends_at is not None and now >= watch.ends_at:
                stopped_at = now
                progress.ending = "deadline"
                _stop(job, StopReason.DEADLINE, f"the deadline is reached; {RESUME}")
    return worker.result()


def _give_up() -> None:
    """Ends the process although something hangs: what is committed is safe."""
    log.error("committing the finished rows takes too long; %s", RESUME)
    signals.exit_now(ExitCode.INCOMPLETE)


def _stop(job: JobConfig, reason: StopReason, message: str) -> None:
    """Tells the engines of this process at once, and those of others by a note."""
    stop = Stop(reason, message, time.time())
    for engine in running_engines():
        engine.stop.set_from(stop)
    # For the engines of other processes; those of this one have left the note as well.
    with contextlib.suppress(OSError, OutputError):
        worker_notes.write_stop(Dataset.open(job.output.uri), job.run_id, stop)


class _Worker(threading.Thread):
    """A thread that keeps what its work gave or raised."""

    def __init__(self, work: Callable[[], dict[str, int]]) -> None:
        super().__init__(name="pipeline", daemon=True)
        self._work = work
        self._counters: dict[str, int] = {}
        self._error: BaseException | None = None

    def run(self) -> None:
        # What Beam starts from this thread inherits its mask: Ctrl-C in a terminal goes to the
        # whole process group, and must not kill worker processes with paid work in the air.
        signal.pthread_sigmask(signal.SIG_BLOCK, signals.SIGNALS)
        try:
            self._counters = self._work()
        except BaseException as error:
            self._error = error

    def result(self) -> dict[str, int]:
        if self._error is not None:
            raise self._error
        return self._counters
