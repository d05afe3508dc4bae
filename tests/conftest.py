from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from emulator.server import EmulatorServer

settings.register_profile("suite", deadline=None, max_examples=60)
settings.load_profile("suite")

FOREIGN = ("GOOGLE_", "GEMINI_", "BULKEMBED_", "INPUT", "OUTPUT", "ARGS", "EMULATOR")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def _nothing_from_the_users_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for name in list(os.environ):
        if name.startswith(FOREIGN) or name.upper() in PROXIES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    with EmulatorServer() as running:
        yield running
