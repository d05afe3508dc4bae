"""Google's own tests of `embed_content`, from the google-genai wheel, run against an emulator.

The tests are in `google.genai.tests`. They run in a process of their own, in Google's mode `api`,
with the emulator as base URL: once as the Developer API, once as Vertex with a key.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

import certifi

from support.cli import process
from support.drawings import drawing
from support.recordings import movie, printed

MODULES = ("models.test_embed_content", "shared.models.test_embed")
MEDIA = {
    "story.pdf": printed("Once upon a time"),
    "animal.mp4": movie(5, sound=True),
    "checkerboard.png": drawing("black", "square"),
}
"""What the tests read beside themselves, which the wheel leaves out: stand-ins."""
OBJECTS = {
    "cloud-samples-data/generative-ai/image/a-man-and-a-dog.png": drawing("brown", "star"),
    "generativeai-downloads/images/scones.jpg": drawing("brown", "oval", form="JPEG"),
}
"""The objects of Google's buckets that the tests name: stand-ins."""

CONFTEST = """\
import asyncio, inspect, json, os
import pytest
from google.genai import types
from google.genai.tests.conftest import *


def pytest_collection_modifyitems(items):
    here = types.HttpOptions(base_url=os.environ["EMULATOR_URL"])
    for item in items:
        item.callspec.params["http_options"] = here


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call" or report.outcome != "passed":
        service = "vertex" if item.callspec.params["use_vertex"] else "developer"
        why = str(call.excinfo.value) if call.excinfo else ""
        with open(os.environ["OUTCOMES"], "a") as file:
            print(json.dumps([item.originalname, service, report.outcome, why]), file=file)
"""
LOADER = """\
import importlib.util
from pathlib import Path

spec = importlib.util.find_spec("google.genai.tests.{module}")
loaded = importlib.util.module_from_spec(spec)
loaded.__file__ = str(Path(__file__).parent / "models/here.py")  # Where ../data is.
spec.loader.exec_module(loaded)
globals().update({{name: one for name, one in vars(loaded).items() if name.startswith("test_")}})
pytestmark = loaded.pytestmark
"""


class Outcome(NamedTuple):
    """How one of Google's tests ended on one of the services."""

    passed: bool
    why: str


def write_objects(folder: Path) -> None:
    """Write the objects that the tests name, in a folder for each bucket."""
    for name, content in OBJECTS.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(content)


def outcomes(url: str, folder: Path) -> dict[tuple[str, str], Outcome]:
    """Every test's name and service (`developer`, `vertex`), and how it ended."""
    (folder / "data").mkdir()
    for name, content in MEDIA.items():
        (folder / "data" / name).write_bytes(content)
    (folder / "models").mkdir()
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    asyncio: run by conftest.py\n")
    for module in MODULES:
        name = f"test_google_{module.replace('.', '_')}.py"
        (folder / name).write_text(LOADER.format(module=module))
    # Each test makes clients, and each of these reads all certificates, of which none is needed.
    first, end, _ = certifi.contents().partition("-----END CERTIFICATE-----")
    (folder / "certificates.pem").write_text(first + end + "\n")
    found = folder / "outcomes"
    environ = {
        "GOOGLE_API_KEY": "a-key",
        "EMULATOR_URL": url,
        "SSL_CERT_FILE": str(folder / "certificates.pem"),
        "GOOGLE_GENAI_REPLAYS_DIRECTORY": str(folder / "replays"),
        "OUTCOMES": str(found),
        "PYTEST_ADDOPTS": "",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "NO_PROXY": "127.0.0.1",
    }
    ended = process(
        sys.executable, "-m", "pytest", "--mode", "api", "--rootdir", str(folder), str(folder),
        cwd=folder, timeout_s=200, **environ,
    )  # fmt: skip
    assert found.exists(), ended.out + ended.err
    assert "error" not in ended.out.splitlines()[-1], ended.out
    lines = [json.loads(line) for line in found.read_text().splitlines()]
    return {(name, service): Outcome(how == "passed", why) for name, service, how, why in lines}
