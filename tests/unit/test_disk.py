from __future__ import annotations

import dataclasses

import pytest
from support.jobs import a_file, a_job

from bulkembed.pipeline.run.disk import KEPT_ANSWERS_BYTES, ROW_BYTES, bytes_needed
from bulkembed.pipeline.run.plan import make_plan
from bulkembed.schemas.inputs import InputColumns
from bulkembed.schemas.job import OutputConfig, VectorType
from bulkembed.transforms.dataset.records import DatasetState


@pytest.mark.parametrize(
    ("rows", "kind", "needed"),
    [
        (0, VectorType.FLOAT32, 0),
        (10, VectorType.FLOAT32, 10 * (2 * 12_288 + ROW_BYTES)),
        (10, VectorType.FLOAT16, 10 * (6_144 + 12_288 + ROW_BYTES)),
        (10**6, VectorType.FLOAT32, 10**6 * (12_288 + ROW_BYTES) + KEPT_ANSWERS_BYTES),
    ],
)
def test_vectors_and_the_spill_of_units_in_flight_need_room(
    rows: int, kind: VectorType, needed: int
) -> None:
    plan = make_plan([a_file(rows)], DatasetState(), 2500)
    job = a_job(output=OutputConfig(uri="out", vector_type=kind))
    assert bytes_needed(plan, job) == needed


def test_kept_columns_are_taken_at_the_size_of_their_file() -> None:
    plan = make_plan([a_file(10)], DatasetState(), 2500)
    job = a_job()
    kept = dataclasses.replace(job, columns=InputColumns(keep_columns=("title",)))
    assert bytes_needed(plan, kept) - bytes_needed(plan, job) == 1000
