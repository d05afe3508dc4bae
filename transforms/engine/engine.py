"""All that a process shares while it works on one run: the client, the gate, the stop flag."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

from schemas.errors import ConfigError, OutputError
from schemas.job import JobConfig
from schemas.stop import Stop, StopReason
from transforms import metrics
from transforms.clients.gemini import GeminiClient
from transforms.clients.keys import find_key
from transforms.core.concurrency import ConcurrencyLevel
from transforms.core.packing import CallLimits
from transforms.core.quota import QuotaMirror
from transforms.core.tokens import TokenEstimator
from transforms.engine.attempts import CallStats
from transforms.engine.caller import Caller
from transforms.engine.dead_rows import DeadRowBudget
from transforms.engine.event_loop import LoopThread
from transforms.engine.gate import Gate
from transforms.engine.quota_file import (
    LocalQuota,
    Quota,
    SharedQuota,
    quota_file,
    secret_digest,
)
from transforms.engine.rate_service import EnvoyService
from transforms.engine.stopping import StopFlag
from transforms.engine.unit_work import UnitWorker
from transforms.storage import stop_notes
from transforms.storage.dataset import Dataset
from transforms.storage.spill import Spill

CLOSE_TO_S = 5.0
"""A call is over some moments after its time-out at the latest."""
CLOCK_OFFSET = "BULKEMBED_CLOCK_OFFSET_S"
log = logging.getLogger("bulkembed")

VERTEX_CALL_TOKENS = 20_000
"""Most tokens of one Vertex `:predict` call.  Source: cloud.google.com/vertex-ai, 2026-11."""


class Engine:
    """The running job inside one process; see `engine_for`."""

    def __init__(self, job: JobConfig) -> None:
        self.job = job
        self._taken: dict[str, int] = {}
        self.dataset = Dataset.open(job.output.uri)
        self.stop = StopFlag(self._on_stop)
        self.estimator = TokenEstimator(job.embedding.spec.max_tokens)
        self._loop = LoopThread(f"bulkembed-{job.run_id}")
        key, _ = find_key(job.service)
        calls = job.calls
        self._client = GeminiClient(job.service, job.embedding, key, calls.max_in_flight)
        self._quota = quota_of(job, key)
        self.gate = Gate(
            self._quota,
            ConcurrencyLevel(calls.max_in_flight),
            CallLimits(
                texts=calls.texts,
                tokens=VERTEX_CALL_TOKENS
                if job.service.predicts(job.embedding.spec.name)
                else None,
            ),
            self.stop,
            clock=quota_clock(),
        )
        self.caller = Caller(
            self._client,
            self.gate,
            self.estimator,
            self.stop,
            deadline_s=calls.call_deadline_s,
            rate_service=(
                EnvoyService(calls.rate_service, job.embedding.spec.name)
                if calls.rate_service
                else None
            ),
        )
        self.worker = UnitWorker(
            job,
            self.caller,
            self.dataset,
            self.stop,
            Spill(self.dataset, job.run_id),
            DeadRowBudget(job.most_dead_rows, self.stop),
        )

    @property
    def stats(self) -> CallStats:
        """What this process has sent so far."""
        return self.caller.stats

    @property
    def loop(self) -> LoopThread:
        """The background event loop."""
        return self._loop

    def take_counts(self) -> dict[str, int]:
        """What the process did since the last time of asking, by the names of the counters."""
        now = {
            **dataclasses.asdict(self.caller.stats),
            metrics.THROTTLED_MS: int(self.gate.throttled_s * 1000),
        }
        with _lock:
            before, self._taken = self._taken, now
        return {name: value - before.get(name, 0) for name, value in now.items()}

    def look_for_notes(self) -> None:
        """Takes over the reason to end that another process, or the launcher, has left."""
        # A store that fails for a moment is asked again a second later.
        with contextlib.suppress(OSError, OutputError):
            for stop in stop_notes.read(self.dataset, self.job.run_id):
                self.stop.take_over(stop)
        if launcher_is_gone(self.job.launcher):
            self.stop.set(StopReason.SIGNAL, "the launcher is gone; its workers end in good order")

    def close(self) -> None:
        """Ends the loop and closes the connections."""
        self._loop.run(self._client.close())
        self._loop.close()
        self._quota.close()

    def _on_stop(self, stop: Stop) -> None:
        """Tells the other workers; ends all waiting, and gives calls in the air their time."""
        self._loop.call_later(0.0, self.gate.close)
        left_s = stop.at + self.job.calls.grace_s - time.time()
        self._loop.call_later(max(0.0, left_s), self.caller.abort)
        try:
            stop_notes.leave(self.dataset, self.job.run_id, stop)
        except (OSError, OutputError):
            log.error("%s", stop.message)  # Nobody will read it there: the disk may be full.


def quota_clock() -> Callable[[], float]:
    """The wall clock; ahead by BULKEMBED_CLOCK_OFFSET_S, for tests that cannot wait a day.

    Raises:
        ConfigError: the variable holds no number.
    """
    told = os.environ.get(CLOCK_OFFSET, "").strip()
    try:
        offset_s = float(told or 0)
    except ValueError as error:
        raise ConfigError(f"{CLOCK_OFFSET}={told}: give seconds, or leave it out") from error
    return (lambda: time.time() + offset_s) if offset_s else time.time


def quota_of(job: JobConfig, key: str | None) -> Quota:
    """The quota's mirror: shared by the processes of this host, unless there is no limit to keep.

    It belongs to the quota's name, else the project, else the key; the key itself goes nowhere.
    """
    limits, service = job.calls.limits, job.service
    mirror = QuotaMirror(
        limits, call_timeout_s=service.timeout_s + CLOSE_TO_S, call_texts=job.calls.texts
    )
    if limits.rpm is None and limits.tpm is None and limits.rpd is None:
        return LocalQuota(mirror)
    owner = job.calls.quota_name or service.vertex_project or secret_digest(key or "")
    where = service.base_url or service.identity
    return SharedQuota(mirror, quota_file(where, owner, job.embedding.spec.name))


def launcher_is_gone(launcher: tuple[str, int]) -> bool:
    """Whether this is a worker on the launcher's host, and the launcher was killed."""
    host, pid = launcher
    if not pid or pid == os.getpid() or host != socket.gethostname():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


@dataclasses.dataclass(slots=True)
class _Shared:
    engine: Engine
    users: int


_engines: dict[str, _Shared] = {}
_lock = threading.Lock()


def engine_for(job: JobConfig) -> Engine:
    """The one engine of this process for a run; each caller must `release` it once.

    Beam makes a DoFn for each thread: settings held there would be per thread, and two threads
    would keep twice the calls in flight.

    Raises:
        ConfigError: there is no key.
    """
    with _lock:
        shared = _engines.get(job.run_id)
        if shared is None:
            shared = _engines[job.run_id] = _Shared(Engine(job), 0)
            # What Beam and the SDK have imported lives to the end: no collection needs to walk it.
            gc.freeze()
        shared.users += 1
        return shared.engine


def release(engine: Engine) -> None:
    """Gives an engine back; the last one to do so closes it."""
    with _lock:
        shared = _engines.get(engine.job.run_id)
        if shared is None:
            return
        shared.users -= 1
        if shared.users > 0:
            return
        del _engines[engine.job.run_id]
    engine.close()


def running_engines() -> Iterator[Engine]:
    """The engines of this process: for signals and progress."""
    with _lock:
        engines = [shared.engine for shared in _engines.values()]
    yield from engines
