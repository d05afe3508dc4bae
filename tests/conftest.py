from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path

# Before numpy is imported. The threads of a matrix library poll while they wait for each other:
# on cores that other processes use as well, a product then takes ten times the CPU.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import settings

from bulkembed.emulator.server import EmulatorServer
from bulkembed.pipeline.demo.corpus import SHARDS, write_corpus

# Each run on a person's machine tries new examples; those in CI try the same ones.
settings.register_profile(
    "suite", deadline=None, max_examples=60, derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("suite")

FOREIGN = ("GOOGLE_", "GEMINI_", "BULKEMBED_", "INPUT", "OUTPUT", "ARGS", "EMULATOR")
STORES = ("AWS_", "AZURE_", "STORAGE_EMULATOR_HOST", "CLOUD_STORAGE_")
OTHER_SUITES = {"browser": "browser", "engines": "runners", "examples": "examples"}
"""The folders all of whose tests have a marker; their imports take seconds."""
CORPUS = ("asyncio", "email", "http", "json", "logging", "tkinter", "unittest", "xml")
"""The modules whose docstrings are enough for a test; reading all takes 8 s."""
ABSENT = Path(__file__).parent / "support/absent"
"""Packages that are here for the tests only, and that processes started by tests do not find."""
WITH_ALL_PACKAGES = ("docs", "examples", "readers", "runners")
"""The markers of tests whose processes find them."""
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import the modules of a folder whose tests are deselected anyway."""
    if collection_path.parent != Path(__file__).parent:
        return None
    marker = OTHER_SUITES.get(collection_path.name)
    return True if marker and f"not {marker}" in config.option.markexpr else None


@pytest.fixture(autouse=True)
def _nothing_from_the_users_environment(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    if not any(map(request.node.get_closest_marker, WITH_ALL_PACKAGES)):
        monkeypatch.setenv("PYTHONPATH", str(ABSENT))
    for name in list(os.environ):
        if name.startswith(FOREIGN + STORES) or name.upper() in PROXIES:
            monkeypatch.delenv(name)
    # A page takes seconds: the tests that are about it ask for it.
    monkeypatch.setenv("BULKEMBED_RUN_REPORT", "0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of the corpus, about 2,500 rows, written once for all processes of a test run."""
    folder = tmp_path_factory.getbasetemp().parent / "corpus"
    with (tmp_path_factory.getbasetemp().parent / "corpus.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all((folder / shard).exists() for shard in SHARDS):
            write_corpus(folder, CORPUS)
    return folder


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    with EmulatorServer() as running:
        yield running


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with the shards that the README speaks of."""
    shards = tmp_path / "shards/2026"
    shards.mkdir(parents=True)
    columns = ("id", "title", "body", "url", "lang")
    rows = [{name: f"{name} {row}" for name in columns} for row in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), shards / "a.parquet")
    return tmp_path


@pytest.fixture
def all_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes of this test find all packages of this environment."""
    monkeypatch.delenv("PYTHONPATH", raising=False)


@pytest.fixture
def at_home(workplace: Path, server: EmulatorServer, all_packages: None) -> dict[str, str]:
    """An environment in which Google's API is the emulator and `bulkembed` is on the path."""
    here = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": f"{here}{os.pathsep}{os.environ['PATH']}",
        "GOOGLE_GEMINI_BASE_URL": server.url,
        "GEMINI_API_KEY": "a-key",
        # Google's, which is not known of another address.
        "BULKEMBED_RUN_PRICE_USD_PER_MTOK": "0.15",
        "XDG_CACHE_HOME": str(workplace / "cache"),
        "NO_PROXY": "127.0.0.1",
    }
