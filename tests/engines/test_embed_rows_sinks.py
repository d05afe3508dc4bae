"""EmbedRows before Beam's own sinks on Prism: every row that goes in is in the files."""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from support.beam_sinks import Shape, all_rows, written

from .conftest import program_flag

pytestmark = [pytest.mark.runners, pytest.mark.timeout(300)]


# Prism loses rows that are gathered, so EmbedRows rejects that: see test_embed_rows_settings.py.
SHAPES = [shape for shape in Shape if shape is not Shape.GATHERED]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.value)
def test_each_row_is_in_the_files_of_every_sink_on_prism(shape: Shape, tmp_path: Path) -> None:
    options = PipelineOptions([program_flag("prism")])
    found = written(lambda: beam.Pipeline("PrismRunner", options), shape, tmp_path)
    assert found == all_rows(shape)
