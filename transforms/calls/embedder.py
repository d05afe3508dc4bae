"""Everything that a process shares to get vectors from one service under one quota."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.job import EmbedderConfig
from bulkembed.schemas.live import Live, LiveCounts
from bulkembed.transforms.calls import metrics
from bulkembed.transforms.calls.caller import Caller
from bulkembed.transforms.calls.deliveries import ResultReceiver
from bulkembed.transforms.calls.gate import Gate
from bulkembed.transforms.calls.long_texts import TokenCounter, reject_long_texts
from bulkembed.transforms.calls.rate_service import EnvoyService
from bulkembed.transforms.calls.shared_quota import (
    LocalQuota,
    Quota,
    SharedQuota,
    quota_file,
    secret_digest,
)
from bulkembed.transforms.calls.spending import Spending
from bulkembed.transforms.calls.stopping import StopFlag
from bulkembed.transforms.calls.threads import LoopThread, Pool
from bulkembed.transforms.clients.gemini import GeminiClient
from bulkembed.transforms.clients.keys import find_key
from bulkembed.transforms.core.concurrency import ConcurrencyLevel
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.quota_limits import max_call_size
from bulkembed.transforms.core.quota_mirror import QuotaMirror
from bulkembed.transforms.core.timeline import Timeline
from bulkembed.transforms.core.tokens import TokenEstimator

TIMEOUT_MARGIN_S = 5.0
"""A call is over this long after its time-out at the latest."""
CLOCK_OFFSET = "BULKEMBED_CLOCK_OFFSET_S"


class Embedder:
    """Gets vectors for contents; owns the event loop, client, quota, gate and caller.

    Args:
        config: which vectors, from which service, and how fast; it does not contain the key.
        stop: ends all waiting.
        name: of the thread of the event loop.
        spending: reserves what calls can cost; None for no account.

    Raises:
        ConfigError: there is no key.
    """

    def __init__(
        self, config: EmbedderConfig, stop: StopFlag, name: str, spending: Spending | None = None
    ) -> None:
        self.config = config
        self.stop = stop
        self._reported: dict[str, int] = {}
        self._lock = threading.Lock()
        embedding, calls = config.embedding, config.calls
        self.estimator = TokenEstimator(embedding.spec.max_tokens)
        key, _ = find_key(config.service)
        self.loop = LoopThread(name)
        self._client = GeminiClient(config.service, embedding, key, calls.concurrency)
        self._quota = quota_of(config, key)
        self._gate = Gate(
            self._quota,
            ConcurrencyLevel(calls.concurrency),
            max_call_size(config),
            clock=quota_clock(),
        )
        self._caller = Caller(
            self._client,
            self._gate,
            self.estimator,
            stop,
            deadline_s=calls.retry_timeout_s,
            spending=spending,
            factors=embedding.spec.media_factors,
            rate_service=(
                EnvoyService(calls.rate_service, embedding.spec.name)
                if calls.rate_service
                else None
            ),
        )
        self._counter = TokenCounter(
            self._client, self._caller.retrier, stop, calls.retry_timeout_s
        )

    async def embed(self, contents: Sequence[Content], receiver: ResultReceiver) -> None:
        """Embed the contents; report those that are too long as dead if the settings say so.

        Returns when each content has a result, or when the run must end.
        """
        contents = await reject_long_texts(contents, self.config.embedding, self._counter, receiver)
        await self._caller.embed(contents, receiver)

    @contextlib.contextmanager
    def expecting(self) -> Iterator[None]:
        """Say that contents are on their way: calls that are not full wait for them a little.

        From any thread. On the loop, what is handed in right after it is in time.
        """
        self.loop.call_soon(lambda: self._caller.expect(1))
        try:
            yield
        finally:
            self.loop.call_soon(lambda: self._caller.expect(-1))

    def take_counts(self) -> dict[str, int]:
        """Return what the process did since the last call, by the names of the counters."""
        now = {
            **dataclasses.asdict(self._caller.stats),
            metrics.THROTTLED_MS: int(self._caller.throttled_s * 1000),
        }
        with self._lock:
            before, self._reported = self._reported, now
        return {name: value - before.get(name, 0) for name, value in now.items()}

    def sent(self) -> LiveCounts:
        """Return the calls sent so far, and the waiting; `take_counts` is not affected."""
        stats = self._caller.stats
        return LiveCounts(
            sent=stats.calls_sent,
            retried=stats.calls_retried,
            rate_limited=stats.calls_refused,
            throttled_ms=int(self._caller.throttled_s * 1000),
        )

    def live(self) -> Live:
        """Return the calls in flight, the use of the quota, and why calls wait; thread-safe."""
        return self._gate.live()

    @property
    def timeline(self) -> Timeline:
        """The results of the calls of this process over time."""
        return self._caller.timeline

    def end_calls(self, timeout_s: float) -> None:
        """End all waiting now, and cancel the calls in flight after `timeout_s`."""
        self.loop.call_later(0.0, self._caller.close)
        self.loop.call_later(max(0.0, timeout_s), self._caller.abort)

    def close(self) -> None:
        """End the loop and close the connections."""
        self.loop.run(self._client.close())
        self.loop.close()
        self._quota.close()


def quota_clock() -> Callable[[], float]:
    """Return the wall clock, ahead by BULKEMBED_CLOCK_OFFSET_S for tests of a day's quota.

    Raises:
        ConfigError: the variable is not a number.
    """
    value = os.environ.get(CLOCK_OFFSET, "").strip()
    try:
        offset_s = float(value or 0)
    except ValueError as error:
        raise ConfigError(f"{CLOCK_OFFSET}={value!r} is not a number of seconds.") from error
    return (lambda: time.time() + offset_s) if offset_s else time.time


def quota_of(config: EmbedderConfig, key: str | None) -> Quota:
    """Return the quota mirror: shared by the processes of this host if there is a limit.

    It belongs to the quota's name, or else the project, or else the key. The key is not stored.
    """
    calls, service = config.calls, config.service
    limits = calls.limits
    mirror = QuotaMirror(
        limits, call_timeout_s=service.timeout_s + TIMEOUT_MARGIN_S, call_texts=config.call_texts
    )
    if limits.rpm is None and limits.tpm is None and limits.rpd is None:
        return LocalQuota(mirror)
    owner = calls.quota_name or service.vertex_project or secret_digest(key or "")
    where = service.base_url or service.identity
    return SharedQuota(mirror, quota_file(where, owner, config.embedding.spec.name))


_embedders: Pool[Embedder] = Pool()


def embedder_for(config: EmbedderConfig) -> Embedder:
    """Return the embedder of this process for these settings; each user must `release` it once.

    One that has stopped is not reused: its current users keep it, and later ones get a new one.

    Raises:
        ConfigError: there is no key.
    """
    return _embedders.acquire(
        config, lambda: _stage_embedder(config), lambda one: not one.stop.is_set()
    )


def release(embedder: Embedder) -> None:
    """Return an embedder; the last user closes it."""
    _embedders.release(embedder)


def _stage_embedder(config: EmbedderConfig) -> Embedder:
    """Make an embedder whose stop ends the running bundles, which the runner may retry."""
    stop = StopFlag(lambda _: embedder.end_calls(config.calls.shutdown_timeout_s))
    embedder = Embedder(config, stop, "bulkembed-rows")
    return embedder
