"""The service that is called: the emulator is started where it is asked for."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

from schemas.embedding import Service, ServiceConfig
from schemas.errors import ConfigError


@contextlib.contextmanager
def serving(service: ServiceConfig) -> Iterator[ServiceConfig]:
    """The service to call, for as long as it is needed.

    Raises:
        ConfigError: the emulator is asked for and not installed.
    """
    if service.kind is not Service.EMULATOR:
        yield service
        return
    try:
        from emulator.server import EmulatorServer
    except ImportError as error:
        raise ConfigError(
            f"--emulator needs {error.name}; pip install 'bulkembed[emulator]'"
        ) from None
    with EmulatorServer() as server:
        yield dataclasses.replace(service, base_url=server.url)
