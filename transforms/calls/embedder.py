"""All that a process shares to get vectors from one service under one quota."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.job import EmbedderConfig
from bulkembed.schemas.live import LiveCounts
from bulkembed.transforms.calls import metrics
from bulkembed.transforms.calls.caller import Caller
from bulkembed.transforms.calls.event_loop import LoopThread
from bulkembed.transforms.calls.gate import Gate
from bulkembed.transforms.calls.pool import Pool
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
from bulkembed.transforms.clients.gemini import GeminiClient
from bulkembed.transforms.clients.keys import find_key
from bulkembed.transforms.core.concurrency import ConcurrencyLevel
from bulkembed.transforms.core.quota_limits import max_call_size
from bulkembed.transforms.core.quota_mirror import QuotaMirror
from bulkembed.transforms.core.timeline import Timeline
from bulkembed.transforms.core.tokens import TokenEstimator

CLOSE_TO_S = 5.0
"""A call is over some moments after its time-out at the latest."""
CLOCK_OFFSET = "BULKEMBED_CLOCK_OFFSET_S"


class Embedder:
    """The way from texts to vectors: event loop, client, quota, gate and caller.

    Args:
        config: which vectors, from where and how fast; the key is found here.
        stop: ends all waiting.
        name: of its thread.
        spending: holds what calls can cost; None where nobody keeps an account.

    Raises:
        ConfigError: there is no key.
    """

    def __init__(
        self, config: EmbedderConfig, stop: StopFlag, name: str, spending: Spending | None = None
    ) -> None:
        self.config = config
        self.stop = stop
        self._taken: dict[str, int] = {}
        self._lock = threading.Lock()
        embedding, calls = config.embedding, config.calls
        self.estimator = TokenEstimator(embedding.spec.max_tokens)
        key, _ = find_key(config.service)
        self.loop = LoopThread(name)
        self._client = GeminiClient(config.service, embedding, key, calls.concurrency)
        self._quota = quota_of(config, key)
        self.gate = Gate(
            self._quota,
            ConcurrencyLevel(calls.concurrency),
            max_call_size(config),
            stop,
            clock=quota_clock(),
        )
        self.caller = Caller(
            self._client,
            self.gate,
            self.estimator,
            stop,
            deadline_s=calls.retry_timeout_s,
            spending=spending,
            rate_service=(
                EnvoyService(calls.rate_service, embedding.spec.name)
                if calls.rate_service
                else None
            ),
        )

    def take_counts(self) -> dict[str, int]:
        """What the process did since the last time of asking, by the names of the counters."""
        now = {
            **dataclasses.asdict(self.caller.stats),
            metrics.THROTTLED_MS: int(self.gate.throttled_s * 1000),
        }
        with self._lock:
            before, self._taken = self._taken, now
        return {name: value - before.get(name, 0) for name, value in now.items()}

    def sent(self) -> LiveCounts:
        """The calls sent so far; takes no counts away."""
        stats = self.caller.stats
        return LiveCounts(
            sent=stats.calls_sent, retried=stats.calls_retried, refused=stats.calls_refused
        )

    @property
    def timeline(self) -> Timeline:
        """What became of the calls of this process over time."""
        return self.caller.timeline

    def end_calls(self, shutdown_timeout_s: float) -> None:
        """Ends all waiting now, and the calls in the air after `shutdown_timeout_s`."""
        self.loop.call_later(0.0, self.gate.close)
        self.loop.call_later(max(0.0, shutdown_timeout_s), self.caller.abort)

    def close(self) -> None:
        """Ends the loop and closes the connections."""
        self.loop.run(self._client.close())
        self.loop.close()
        self._quota.close()


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


def quota_of(config: EmbedderConfig, key: str | None) -> Quota:
    """The quota's mirror: shared by the processes of this host, unless there is no limit to keep.

    It belongs to the quota's name, else the project, else the key; the key itself goes nowhere.
    """
    calls, service = config.calls, config.service
    limits = calls.limits
    mirror = QuotaMirror(
        limits, call_timeout_s=service.timeout_s + CLOSE_TO_S, call_texts=config.call_texts
    )
    if limits.rpm is None and limits.tpm is None and limits.rpd is None:
        return LocalQuota(mirror)
    owner = calls.quota_name or service.vertex_project or secret_digest(key or "")
    where = service.base_url or service.identity
    return SharedQuota(mirror, quota_file(where, owner, config.embedding.spec.name))


_embedders: Pool[Embedder] = Pool()


def embedder_for(config: EmbedderConfig) -> Embedder:
    """The one embedder of this process for these settings; each caller must `release` it once.

    One that has stopped is left to those who use it still: whoever comes later gets a new one.

    Raises:
        ConfigError: there is no key.
    """
    return _embedders.take(
        config, lambda: _stage_embedder(config), lambda one: not one.stop.is_set()
    )


def release(embedder: Embedder) -> None:
    """Gives an embedder back; the last one to do so closes it."""
    _embedders.give_back(embedder)


def _stage_embedder(config: EmbedderConfig) -> Embedder:
    """An embedder whose stop ends the bundles under way: the runner tries them again, or not."""
    stop = StopFlag(lambda _: embedder.end_calls(config.calls.shutdown_timeout_s))
    embedder = Embedder(config, stop, "bulkembed-rows")
    return embedder
