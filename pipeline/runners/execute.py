"""Run the pipeline in a thread, while the main thread handles signals, time limits and progress."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Callable

from bulkembed.pipeline.logs import log
from bulkembed.pipeline.progress.progress import Progress
from bulkembed.pipeline.runners import signals
from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.stop import RERUN, ExitCode, Stop, StopReason
from bulkembed.transforms.dataset import worker_notes
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.units.engine import running_engines

POLL_EVERY_S = 0.05


@dataclasses.dataclass(frozen=True, slots=True)
class TimeLimits:
    """When a run stops, and how long that may take.

    Attributes:
        shutdown_timeout_s: how long requests in flight may take to finish once the run is to stop;
            the engines enforce it.
        commit_s: how long the commits of finished rows may take after that, such as uploads.
        ends_at: when the run is to stop, by `time.monotonic`; None for no limit.
    """

    shutdown_timeout_s: float = 20.0
    commit_s: float = 60.0
    ends_at: float | None = None


def execute(
    pipeline: Callable[[], dict[str, int]], job: JobConfig, limits: TimeLimits, progress: Progress
) -> dict[str, int]:
    """Run the pipeline until it ends or is stopped cleanly, and return its counters.

    Args:
        pipeline: the work; runs in its own thread.
        job: the configuration of the workers.
        limits: when to stop.
        progress: shown meanwhile, and closed.

    Raises:
        Exception: any error of the pipeline.
    """
    thread = _PipelineThread(pipeline)
    signalled = threading.Event()
    names: list[str] = []

    def on_signal(name: str) -> None:
        names.append(name)
        signalled.set()

    def exit_process(code: int) -> None:
        progress.close()
        signals.exit_now(code)

    def on_second_signal(code: int) -> None:
        progress.when_drawn(lambda: exit_process(code))

    with signals.handled(on_signal, on_second_signal), progress:
        thread.start()
        stopped_at: float | None = None
        while thread.is_alive():
            thread.join(POLL_EVERY_S)
            progress.tick()
            now = time.monotonic()
            if stopped_at is not None:
                if now >= stopped_at + limits.shutdown_timeout_s + limits.commit_s:
                    progress.close()
                    _abort()
            elif signalled.is_set():
                stopped_at = now
                progress.ending = names[0]
                _announce(names[0], limits)
                _stop(job, StopReason.SIGNAL, f"interrupted by {names[0]}: stopped cleanly")
            elif limits.ends_at is not None and now >= limits.ends_at:
                stopped_at = now
                progress.ending = "deadline"
                _announce("--max-runtime", limits)
                _stop(job, StopReason.DEADLINE, "--max-runtime was reached: stopped cleanly")
    return thread.result()


def _announce(cause: str, limits: TimeLimits) -> None:
    log.info(
        "%s: the run stops. Requests in flight may take up to %.0f s, then finished rows are "
        "committed. Another signal ends the run at once.",
        cause,
        limits.shutdown_timeout_s,
    )


def _abort() -> None:
    """End the process although something hangs; committed rows are safe."""
    log.error("committing the finished rows takes too long. %s", RERUN)
    signals.exit_now(ExitCode.INCOMPLETE)


def _stop(job: JobConfig, reason: StopReason, message: str) -> None:
    """Stop the engines of this process directly, and those of other processes by a note."""
    stop = Stop(reason, f"{message}. {RERUN}", time.time())
    for engine in running_engines():
        engine.stop.set_from(stop)
    with contextlib.suppress(OSError, OutputError):
        worker_notes.write_stop(Dataset.open(job.output.uri), job.run_id, stop)


class _PipelineThread(threading.Thread):
    """A thread that keeps what its work returned or raised."""

    def __init__(self, work: Callable[[], dict[str, int]]) -> None:
        super().__init__(name="pipeline", daemon=True)
        self._work = work
        self._counters: dict[str, int] = {}
        self._error: BaseException | None = None

    def run(self) -> None:
        # Worker processes that Beam starts inherit this mask. Ctrl-C in a terminal is sent to the
        # whole process group, and must not kill workers with paid requests in flight.
        signal.pthread_sigmask(signal.SIG_BLOCK, signals.SIGNALS)
        try:
            self._counters = self._work()
        except BaseException as error:
            self._error = error

    def result(self) -> dict[str, int]:
        if self._error is not None:
            raise self._error
        return self._counters
