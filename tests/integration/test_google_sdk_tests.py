"""Google's own tests of `embed_content` against the emulator, and where it differs."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.google_sdk import outcomes, write_objects

from bulkembed.emulator.batch_settings import BatchSettings
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

DIFFERENCES = {
    # What the emulator says, and why it differs from the service there.
    # Only Google's own models are emulated, not those of other publishers.
    ("test_vertex_new_api_maas", "vertex"): "publishers/intfloat",
}


@pytest.mark.timeout(240)
def test_googles_own_tests_pass_except_for_the_listed_differences(tmp_path: Path) -> None:
    write_objects(tmp_path / "buckets")
    (tmp_path / "tests").mkdir()
    batch = BatchSettings(buckets=(("*", str(tmp_path / "buckets")),))
    with EmulatorServer(EmulatorSettings(batch=batch)) as server:
        found = outcomes(server.url, tmp_path / "tests")
        assert server.stats()["calls"] >= 20
    failed = {test: outcome.why for test, outcome in found.items() if not outcome.passed}
    differing = {test: failed.get(test, "") for test in DIFFERENCES}
    assert failed == differing, "fix the emulator, or list the difference with its reason"
    assert all(words in differing[test] for test, words in DIFFERENCES.items()), differing
    assert len(found) >= 36
