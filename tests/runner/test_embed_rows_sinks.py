"""EmbedRows before Beam's own sinks: every row that goes in is in the files that come out."""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import pytest
from support.beam_sinks import Shape, all_rows, written

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("shape", Shape, ids=lambda shape: shape.value)
def test_each_row_is_in_the_files_of_every_sink(shape: Shape, tmp_path: Path) -> None:
    found = written(lambda: beam.Pipeline("FnApiRunner"), shape, tmp_path)
    assert found == all_rows(shape)
