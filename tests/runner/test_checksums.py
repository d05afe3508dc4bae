"""Small files of a dataset in which one digit has changed, so that they are still valid JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.catalogues import catalogue, sync, write_export
from support.cli import bulkembed

from bulkembed.emulator.server import EmulatorServer


@pytest.mark.parametrize(
    ("name", "number"),
    [
        pytest.param("sync.json", r'"input_rows": (\d)', id="rows"),
        pytest.param("sync.json", r'"rows": (\d)', id="planned"),
        pytest.param("manifest.json", r'"size_bytes": (\d)', id="size"),
        pytest.param("manifest.json", r'"added": (\d)', id="changes"),
    ],
)
def test_a_changed_digit_is_found_and_repaired(
    server: EmulatorServer, tmp_path: Path, name: str, number: str
) -> None:
    source, output = write_export(tmp_path / "in", catalogue(9)), tmp_path / "out"
    assert sync(server, source, output).code == 0
    path = output / "_run" / name
    text = path.read_text()
    found = re.search(number, text)
    assert found is not None, text
    digit = "1" if found[1] != "1" else "2"
    path.write_text(text[: found.start(1)] + digit + text[found.end(1) :])
    assert bulkembed("verify", output).code == 1
    assert f"_run/{name}: moved" in bulkembed("verify", output, "--repair").out
    assert sync(server, source, output).code == 0
    assert server.stats()["texts"] == 9


def test_files_of_earlier_versions_have_no_checksum(server: EmulatorServer, tmp_path: Path) -> None:
    source, output = write_export(tmp_path / "in", catalogue(9)), tmp_path / "out"
    assert sync(server, source, output).code == 0
    for name in ("sync.json", "manifest.json"):
        path = output / "_run" / name
        content = json.loads(path.read_bytes())
        del content["checksum"]
        path.write_text(json.dumps(content))
    assert bulkembed("verify", output, "--against", source).code == 0
    assert sync(server, source, output).code == 0
