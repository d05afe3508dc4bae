"""Token counts corrected by what the service counted for units that are committed already."""

from __future__ import annotations

import random
from collections.abc import Sequence

from schemas.inputs import InputFile
from schemas.job import JobConfig
from schemas.units import FileUnits, UnitRecord
from transforms.core.tokens import TokenEstimator, sum_features
from transforms.engine.prepared_units import prepared_units
from transforms.storage.dataset import Dataset, State

MOST_UNITS = 20
"""To learn from: their texts are read once more."""
_SEED = 7


def learn_from(
    job: JobConfig,
    dataset: Dataset,
    files: Sequence[InputFile],
    state: State,
    estimator: TokenEstimator,
) -> int:
    """Teaches the estimator by some committed units; gives how many of them told something.

    Only units whose texts were all sent for themselves do: of the others nobody knows which.

    Raises:
        InputError, OutputError: a file cannot be read.
    """
    by_key = {file.key: file for file in files}
    known = [one for one in state.records if one.unit.file_key in by_key and not one.generation]
    some = random.Random(_SEED).sample(known, min(MOST_UNITS, len(known)))
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
    counts = dataset.whole_record(record).counts
    if not counts.texts:
        return False
    (prepared,) = prepared_units(job, dataset, estimator, FileUnits(file, (record.unit,)))
    if counts.texts != len(prepared.items):
        return False
    estimator.learn(sum_features(item.features for item in prepared.items), counts.tokens)
    return True
