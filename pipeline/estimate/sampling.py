"""Random samples of units, totals estimated from them, and token counts of committed units."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from bulkembed.pipeline.run.plan import Plan
from bulkembed.pipeline.run.row_amount import RowAmount, parse_amount
from bulkembed.schemas.inputs import InputFile
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.units import FileUnits, UnitRecord
from bulkembed.transforms.core.tokens import TokenEstimator, sum_features
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.units.prepare import prepared_units

MIN_UNITS = 10
"""Minimum units of a sample: fewer do not show how much units differ."""
T_95 = 2.262
"""Student's t, two-sided 95 %, for the 9 degrees of freedom of the smallest sample."""
MAX_LEARNT_UNITS = 20
"""Maximum committed units to learn from: their texts are read again."""
_SEED = 7
"""Makes the sample the same each time, so that estimates can be compared."""


def parse_sample(text: str | None) -> RowAmount | None:
    """Return the size for a text such as `100000` or `5%`; None for all rows.

    Raises:
        ConfigError: the text is neither.
    """
    return None if text is None else parse_amount("--sample", text, "5%", allows_zero=False)


def units_to_read(sample: RowAmount, plan: Plan) -> int:
    """Return the number of units of a sample, at least MIN_UNITS."""
    part = sample.percent / 100
    if sample.rows is not None:
        part = sample.rows / max(1, plan.planned_rows)
    return min(plan.units, max(MIN_UNITS, math.ceil(part * plan.units)))


def draw(plan: Plan, units: int) -> tuple[FileUnits, ...]:
    """Return a number of random units of a plan, in the order of the plan."""
    chosen = set(random.Random(_SEED).sample(range(plan.units), units))
    drawn, number = [], 0
    for file in plan.work:
        mine = [at for at in range(len(file.units)) if number + at in chosen]
        number += len(file.units)
        if mine:
            retry_of = tuple(file.retry_of[at] for at in mine) if file.retry_of else ()
            drawn.append(FileUnits(file.file, tuple(file.units[at] for at in mine), retry_of))
    return tuple(drawn)


def total_of(
    values: Sequence[float], rows: Sequence[int], units: int, all_rows: int
) -> tuple[float, float]:
    """Estimate a total over all units from a sample, with half the width of its 95 % interval.

    This is a ratio estimator: the total is in proportion to the rows, because units differ in size.

    Args:
        values: the value of each sampled unit.
        rows: the rows of each sampled unit.
        units: the number of all units.
        all_rows: the rows of all units.

    Source: Cochran, Sampling Techniques, 3rd edition, 6.3.
    """
    ratio = sum(values) / sum(rows)
    drawn = len(values)
    if drawn == units:
        return sum(values), 0.0
    squares = sum((value - ratio * count) ** 2 for value, count in zip(values, rows, strict=True))
    error = units * math.sqrt((1 - drawn / units) * squares / (drawn - 1) / drawn)
    return ratio * all_rows, T_95 * error


def learn_from(
    job: JobConfig,
    dataset: Dataset,
    files: Sequence[InputFile],
    state: DatasetState,
    estimator: TokenEstimator,
) -> int:
    """Correct the estimator by the token counts of committed units; return how many were used.

    Only units that sent all of their own texts can be used: for others it is unknown which texts
    were counted.

    Raises:
        InputError, OutputError: a file cannot be read.
    """
    by_key = {file.key: file for file in files}
    known = [one for one in state.records if one.unit.file_key in by_key and not one.generation]
    some = random.Random(_SEED).sample(known, min(MAX_LEARNT_UNITS, len(known)))
    return sum(
        _learn(job, dataset, by_key[record.unit.file_key], record, estimator)
        for record in sorted(some, key=lambda record: record.unit)
    )


def _learn(
    job: JobConfig,
    dataset: Dataset,
    file: InputFile,
    record: UnitRecord,
    estimator: TokenEstimator,
) -> bool:
    counts = dataset.read_record(record).counts
    if not counts.texts:
        return False
    (prepared,) = prepared_units(job, dataset, estimator, FileUnits(file, (record.unit,)))
    if counts.texts != len(prepared.items):
        return False
    estimator.learn(sum_features(item.features for item in prepared.items), counts.tokens)
    return True
