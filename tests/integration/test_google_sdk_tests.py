"""Google's own tests of `embed_content` against the emulator, and where it differs."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.google_sdk import outcomes

from bulkembed.emulator.server import EmulatorServer

TEXT_ONLY = "The emulator embeds text only"
DIFFERENCES = {
    # What the emulator says, and why it differs from the service there.
    ("test_gemini_embedding_2_content_combination", "developer"): TEXT_ONLY,
    ("test_gemini_embedding_2_content_combination", "vertex"): TEXT_ONLY,
    ("test_new_api_gcs_image_and_config", "developer"): TEXT_ONLY,
    ("test_new_api_gcs_image_and_config", "vertex"): TEXT_ONLY,
    ("test_new_api_inline_pdf", "developer"): TEXT_ONLY,
    ("test_new_api_inline_pdf", "vertex"): TEXT_ONLY,
    ("test_vertex_inline_pdf_document_ocr", "vertex"): TEXT_ONLY,
    ("test_vertex_inline_video_audio_track_extraction", "vertex"): TEXT_ONLY,
    # Only Google's own models are emulated, not those of other publishers.
    ("test_vertex_new_api_maas", "vertex"): "publishers/intfloat",
}


@pytest.mark.timeout(240)
def test_googles_own_tests_pass_except_for_the_listed_differences(tmp_path: Path) -> None:
    with EmulatorServer() as server:
        found = outcomes(server.url, tmp_path)
        assert server.stats()["calls"] >= 20
    failed = {test: outcome.why for test, outcome in found.items() if not outcome.passed}
    differing = {test: failed.get(test, "") for test in DIFFERENCES}
    assert failed == differing, "fix the emulator, or list the difference with its reason"
    assert all(words in differing[test] for test, words in DIFFERENCES.items()), differing
    assert len(found) >= 36
