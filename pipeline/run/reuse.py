"""`--reuse`: other datasets whose vectors a run takes instead of paying for them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from bulkembed.pipeline.logs import log
from bulkembed.pipeline.run.request import RunRequest
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.job import VectorType
from bulkembed.schemas.units import UnitRecord
from bulkembed.transforms.dataset import run_file
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import RUN_FILE


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ReusedDataset:
    """Another dataset, which is read only; it may be incomplete."""

    dataset: Dataset
    uri: str
    records: tuple[UnitRecord, ...]


def open_reused(request: RunRequest, output: Dataset) -> tuple[ReusedDataset, ...]:
    """Return the datasets that `--reuse` names, in their order.

    Raises:
        ConfigError: one of them is missing, has vectors of other settings, or is the output.
        OutputError: one of them cannot be read.
    """
    return tuple(_open(uri, request, output) for uri in request.reuse)


def _open(uri: str, request: RunRequest, output: Dataset) -> ReusedDataset:
    dataset = Dataset.open(uri)
    _check_place(uri, dataset, output)
    pinned = run_file.find(dataset)
    if pinned is None:
        raise ConfigError(
            f"--reuse {uri}: there is no dataset, because {RUN_FILE} is missing. Name "
            "the --output folder of an earlier run."
        )
    differences = run_file.embedding_differences(pinned, request.embedding)
    if differences:
        raise ConfigError(
            f"--reuse {uri}: its vectors are not comparable with those of this run: "
            f"{'; '.join(differences)}. Use the same settings, or remove --reuse."
        )
    width = pinned["layout"].get("vector_type")
    if (width, request.output.vector_type) == (VectorType.FLOAT16, VectorType.FLOAT32):
        log.warning(
            "--reuse %s: its vectors are float16, so reused vectors have the precision of float16",
            uri,
        )
    return ReusedDataset(dataset, uri, dataset.state().records)


def _check_place(uri: str, dataset: Dataset, output: Dataset) -> None:
    """Raise ConfigError if a dataset is the output or a folder in it."""
    if dataset.is_on_a_store != output.is_on_a_store or dataset.filesystem != output.filesystem:
        return
    here, there = (_place(one) for one in (dataset, output))
    if here == there:
        raise ConfigError(
            f"--reuse {uri} is the --output, whose vectors are reused anyway. Remove --reuse, or "
            "choose another --output."
        )
    if here.startswith(f"{there}/"):
        raise ConfigError(
            f"--reuse {uri} is inside of the --output {there}. Name the folder of another dataset."
        )


def _place(dataset: Dataset) -> str:
    return dataset.root if dataset.is_on_a_store else str(Path(dataset.root).resolve())
