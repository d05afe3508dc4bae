"""Reject contents that exceed the model's maximum, if the service must not cut them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.embedding import EmbeddingConfig, LongText
from bulkembed.schemas.errors import CallError, CallRejected, Intercepted, JobRejected
from bulkembed.schemas.stop import StopReason
from bulkembed.transforms.calls.caller import Client
from bulkembed.transforms.calls.deliveries import ResultReceiver
from bulkembed.transforms.calls.retry import (
    MAX_INTERCEPTED_TRIES,
    Attempts,
    Retrier,
    stop_reason,
)
from bulkembed.transforms.calls.stopping import StopFlag, Stopping
from bulkembed.transforms.clients.classification import NO_SUCH_METHOD
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.health import RETRYABLE

log = logging.getLogger("bulkembed")

COUNTS_IN_FLIGHT = 8
"""countTokens has a quota of its own, which is not published."""


class TokenCounter:
    """Asks the service how many tokens a content has; lives on one event loop.

    Args:
        client: sends the requests.
        retrier: retries them.
        stop: set by answers that end the job.
        deadline_s: how long one request is retried.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        client: Client,
        retrier: Retrier,
        stop: StopFlag,
        deadline_s: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._retrier = retrier
        self._stop = stop
        self._deadline_s = deadline_s
        self._clock = clock
        self._permits = asyncio.Semaphore(COUNTS_IN_FLIGHT)
        self._is_supported = True

    async def count(self, content: Content) -> int | None:
        """Return the service's count of a content's tokens, including the title.

        None if the service does not count tokens, or if the run must end.
        """
        attempts = Attempts(self._deadline_s)
        try:
            async with self._permits:
                if self._is_supported:
                    return await self._retrier.run(
                        lambda: self._client.count_tokens(content),
                        attempts,
                        give_up=lambda error: self._is_over(attempts, error),
                    )
        except Stopping:
            return None
        except RETRYABLE as error:
            self._stop.set(stop_reason(error), f"tokens cannot be counted: {error.message}")
        except JobRejected as error:
            if error.http_status not in NO_SUCH_METHOD:
                self._stop.set(StopReason.REJECTED, error.message)
            self._disable(error)
        except CallRejected as error:
            self._disable(error)
        return None

    def _is_over(self, attempts: Attempts, error: CallError) -> bool:
        """Return whether to stop asking for a count."""
        if isinstance(error, Intercepted) and attempts.useless >= MAX_INTERCEPTED_TRIES:
            return True
        return attempts.is_expired(self._clock())

    def _disable(self, error: CallError) -> None:
        if self._is_supported:
            log.warning("the service does not count tokens: %s", error.message)
        self._is_supported = False


async def reject_long_texts(
    contents: Sequence[Content],
    embedding: EmbeddingConfig,
    counter: TokenCounter,
    receiver: ResultReceiver,
) -> Sequence[Content]:
    """Return the contents that may be sent; report those that are too long as dead.

    The service counts only contents that may be too long by their size. It does not count those
    that are certainly too long, because some would not fit into a request. If the service does not
    count tokens, the content is sent, and it stays unknown whether it was cut.
    """
    spec = embedding.spec
    if embedding.long_text not in (LongText.DEAD_LETTER, LongText.STOP):
        return contents
    too_long: set[int] = set()

    def reject(content: Content, size: str) -> None:
        too_long.add(content.index)
        message = f"the text has {size}, but {spec.name} accepts at most {spec.max_tokens:,} tokens"
        receiver.dead(content, DeadCode.TOO_LONG, CallRejected(message), attempts=0)

    uncertain = []
    for content in contents:
        if content.token_bound <= spec.max_tokens:
            continue
        if spec.known and content.surely_exceeds(spec.max_tokens):
            reject(content, f"{content.token_bound:,} bytes")
        else:
            uncertain.append(content)
    counts = await asyncio.gather(*map(counter.count, uncertain))
    for content, tokens in zip(uncertain, counts, strict=True):
        if tokens is not None and tokens > spec.max_tokens:
            reject(content, f"{tokens:,} tokens")
    return [content for content in contents if content.index not in too_long]
