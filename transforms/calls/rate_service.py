"""An Envoy rate limit service, asked in addition to the quota mirror."""

from __future__ import annotations

import asyncio
from typing import Protocol

from bulkembed.schemas.errors import Unavailable

DOMAIN = "bulkembed"
DESCRIPTOR = "model"


class RateService(Protocol):
    """A service that decides when texts may be sent."""

    async def allow(self, texts: int) -> None:
        """Return when so many texts may be sent."""


class EnvoyService:
    """Beam's EnvoyRateLimiter, called outside the event loop.

    It is called for one text at a time. Its windows are fixed, and rejected hits count, so that a
    limit of 50 per second would never allow 100 texts at once.

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
        """Return when the service has allowed each text.

        Raises:
            Unavailable: the service did not answer five times within 40 s.
        """
        await asyncio.to_thread(self._allow, texts)

    def _allow(self, texts: int) -> None:
        from grpc import RpcError  # type: ignore[import-untyped]  # grpcio ships no types

        try:
            for _ in range(texts):
                self._limiter.allow()
        except RpcError as error:
            raise Unavailable(
                f"--rate-limit-service {self._address} does not answer: {error}"
            ) from error
