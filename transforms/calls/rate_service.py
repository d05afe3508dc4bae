"""An Envoy rate limit service in front of the quota's mirror, for those who run one."""

from __future__ import annotations

import asyncio
from typing import Protocol

from bulkembed.schemas.errors import Unavailable

DOMAIN = "bulkembed"
DESCRIPTOR = "model"


class RateService(Protocol):
    """Lets texts through, when it pleases."""

    async def allow(self, texts: int) -> None:
        """Returns when so many texts may be sent."""


class EnvoyService:
    """Beam's EnvoyRateLimiter, asked off the event loop.

    Asked for one text at a time: its windows are fixed and refused hits count, so that a limit of
    50 a second would never let 100 through at once.  Comes on top of the mirror, not instead.

    Args:
        address: host:port of the service.
        model: the value of the descriptor `model` in the domain `bulkembed`.
    """

    def __init__(self, address: str, model: str) -> None:
        from apache_beam.io.components.rate_limiter import EnvoyRateLimiter

        self._address = address
        self._limiter = EnvoyRateLimiter(
            address, DOMAIN, [{DESCRIPTOR: model}], namespace="EmbedUnits"
        )

    async def allow(self, texts: int) -> None:
        """Returns when the service has let each text through.

        Raises:
            Unavailable: the service did not answer, five times in 40 s.
        """
        await asyncio.to_thread(self._allow, texts)

    def _allow(self, texts: int) -> None:
        from grpc import RpcError  # type: ignore[import-untyped]  # grpcio ships no types

        try:
            for _ in range(texts):
                self._limiter.allow()
        except RpcError as error:
            raise Unavailable(
                f"--rate-limit-service {self._address}: does not answer: {error}"
            ) from error
