"""How media is fetched from paths and URIs."""

from __future__ import annotations

import dataclasses

from bulkembed.schemas.errors import ConfigError

MAX_REDIRECTS = 5
"""Redirects of one download that are followed."""


@dataclasses.dataclass(frozen=True, slots=True)
class FetchSettings:
    """How media is fetched; nothing here changes vectors."""

    concurrency: int = 32
    """Downloads in flight of a process, and how many rows ahead they are."""
    per_host: int = 8
    """Downloads in flight from one host or bucket."""
    timeout_s: float = 30.0
    """How long one attempt may take, from connecting to the last byte."""
    connect_timeout_s: float = 10.0
    attempts: int = 3
    """Attempts of a request: after a 429, a 5xx, a time-out or a broken connection."""
    max_wait_s: float = 60.0
    """A host whose Retry-After is longer is not waited for."""
    max_bytes: int = 100_000_000
    """A larger file is not read to its end."""
    allow_private_addresses: bool = False
    """Whether URLs may lead to addresses that are not public: loopback, local networks, metadata
    servers of clouds."""

    def __post_init__(self) -> None:
        _check_least("--fetch-concurrency", self.concurrency, 1)
        _check_least("--fetch-per-host", self.per_host, 1)
        _check_least("--fetch-attempts", self.attempts, 1)
        _check_least("--max-source-bytes", self.max_bytes, 1)
        if not 0 < self.timeout_s < float("inf"):
            raise ConfigError(
                f"--fetch-timeout {self.timeout_s:g} must be a number of seconds above 0."
            )


def _check_least(flag: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{flag} {value} is too small. Use at least {least}.")
