"""All that Flink is handed for a job, in the jar that Beam's job server makes of it."""

from __future__ import annotations

import base64
import bz2
import contextlib
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import write_rows
from support.engines import Engine

from bulkembed.emulator.server import EmulatorServer
from bulkembed.pipeline.runners.staging import pinned_requirements

from .test_engines import KEY

pytestmark = [pytest.mark.runners, pytest.mark.timeout(300)]
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{60,}={0,2}")


def test_graph_options_and_artifacts_hold_the_package_and_its_pins_but_not_the_key(
    flink: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    source = write_rows(tmp_path / "a.parquet", ["a text", "another"])
    jar = tmp_path / "job.jar"
    there = flink.with_flags(f"--output_executable_path={jar}")
    with EmulatorServer() as server:
        where = ("--input", source, "--output", tmp_path / "out", "--base-url", server.url)
        assert there.run(*where, "--dim", 128).code == 75  # The jar is made, and nothing is run.
        assert server.stats()["texts"] == 0
    with zipfile.ZipFile(jar) as opened:
        ours = [name for name in opened.namelist() if name.startswith("BEAM-PIPELINE/")]
        entries = {name: opened.read(name) for name in ours}
    assert {"pipeline.json", "pipeline-options.json"} <= {Path(name).name for name in ours}
    staged = [data for name, data in entries.items() if "/artifacts/" in name]
    (wheel,) = [data for data in staged if data.startswith(b"PK")]
    assert "bulkembed/transforms/embed_units.py" in zipfile.ZipFile(io.BytesIO(wheel)).namelist()
    assert "\n".join(pinned_requirements()).encode() in b"".join(staged)
    assert holding(server.url, entries)  # In a pickled step, so that the search does find things.
    assert holding(KEY, entries) == []


def holding(text: str, entries: dict[str, bytes]) -> list[str]:
    """The entries in which a text is, be it encoded, packed or zipped."""
    wanted = text.encode()
    return [name for name, data in entries.items() if any(wanted in one for one in layers(data))]


def layers(data: bytes) -> Iterator[bytes]:
    """Some bytes, and what is packed in them: Beam's pickles, base64, and the files of a zip."""
    yield data
    for found in _BASE64.findall(data):
        with contextlib.suppress(ValueError):
            yield from layers(unpacked(base64.b64decode(found)))
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            for name in opened.namelist():
                yield opened.read(name)


def unpacked(data: bytes) -> bytes:
    """Without compression, where there is any."""
    with contextlib.suppress(OSError, ValueError):
        return bz2.decompress(data)
    with contextlib.suppress(zlib.error):
        return zlib.decompress(data)
    return data
