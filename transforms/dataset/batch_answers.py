"""The answers of batch jobs, as files of the dataset until their units are committed.

The vectors of a job are a part: columns text_hash, truncated and vector, in the order of the
answers. So they are found by the index of hashes and read like the vectors of other datasets.
What the service said about single texts is a JSON file.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.ledger_entry import BatchJob
from bulkembed.schemas.output_schema import TEXT_HASH_TYPE
from bulkembed.schemas.serialization import from_plain, to_plain
from bulkembed.transforms.core.hashing import Keys, keys
from bulkembed.transforms.core.vectors import Matrix
from bulkembed.transforms.dataset.atomic_files import list_files
from bulkembed.transforms.dataset.batch_ledger import REJECTED_SUFFIX
from bulkembed.transforms.dataset.dataset import READ_THREADS, Dataset
from bulkembed.transforms.dataset.known_vectors import VectorBlock
from bulkembed.transforms.dataset.layout import BATCH, PART_SUFFIX
from bulkembed.transforms.dataset.part_files import read_columns, write_row_groups

GROUP_BYTES = 8 << 20
"""The size of a row group of answers: small, because units want them in another order."""


@dataclasses.dataclass(frozen=True, slots=True)
class RejectedText:
    """A text that the service rejected in a batch job."""

    hash: str
    """In hexadecimal digits."""
    code: DeadCode
    message: str
    """The service's words."""
    http_status: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class _Rejections:
    texts: tuple[RejectedText, ...]


def answers_name(job: BatchJob) -> str:
    """Return the name of the file with the vectors of a job."""
    return f"{BATCH}/{job.display_name}{PART_SUFFIX}"


def answer_parts(dataset: Dataset) -> dict[str, int]:
    """Return the files with the vectors of jobs, and their bytes."""
    files = list_files(dataset.filesystem, dataset.path(BATCH))
    return {
        f"{BATCH}/{file.base_name}": file.size or 0
        for file in files
        if file.base_name.endswith(PART_SUFFIX)
    }


def answered_texts(dataset: Dataset, job: BatchJob) -> Keys | None:
    """Return the keys of the texts with a vector in the file of a job, ascending and distinct.

    Returns:
        None if there is no such file.

    Raises:
        OutputError: the file cannot be read.
    """
    try:
        table = read_columns(dataset, answers_name(job), ["text_hash"])
    except OutputError as error:
        if error.missing:
            return None
        raise OutputError(
            f"{dataset.path(answers_name(job))} {error.reason}. If it is damaged, delete it: its "
            "texts are embedded again.",
            reason=error.reason,
        ) from error
    return np.unique(keys(table["text_hash"].to_pylist()))


def is_answers_name(name: str) -> bool:
    """Return whether a part has the answers of a batch job."""
    return name.startswith(f"{BATCH}/")


def write_answers(
    dataset: Dataset, job: BatchJob, blocks: Iterator[VectorBlock], metadata: dict[str, str]
) -> str:
    """Write the vectors of a job; return the name of the file, which is empty if there is none.

    Args:
        dataset: the dataset.
        job: the job.
        blocks: its vectors, all of one length.
        metadata: of the footer.

    Raises:
        OutputError: the disk is full.
    """
    first = next(blocks, None)
    if first is None:
        return ""
    number = pa.field("element", pa.float32(), nullable=False)
    schema = pa.schema(
        [
            pa.field("text_hash", TEXT_HASH_TYPE, nullable=False),
            pa.field("truncated", pa.bool_()),
            pa.field("vector", pa.list_(number, first.vectors.shape[1]), nullable=False),
        ],
        metadata=metadata,
    )

    def batches() -> Iterator[pa.RecordBatch]:
        yield _batch(first, schema)
        for block in blocks:
            yield _batch(block, schema)

    def write(file: pa.NativeFile) -> None:
        write_row_groups(file, batches(), schema, group_bytes=GROUP_BYTES)

    dataset.write_large(answers_name(job), write)
    return answers_name(job)


def _batch(block: VectorBlock, schema: pa.Schema) -> pa.RecordBatch:
    vectors: Matrix = block.vectors
    kind = schema.field("vector").type
    numbers = pa.array(vectors.reshape(-1), pa.float32())
    return pa.record_batch(
        [
            pa.array(block.hashes, TEXT_HASH_TYPE),
            pa.array(block.truncated, pa.bool_()),
            pa.FixedSizeListArray.from_arrays(numbers, type=kind),
        ],
        schema=schema,
    )


def write_rejected(dataset: Dataset, job: BatchJob, texts: Sequence[RejectedText]) -> None:
    """Write what the service said about single texts of a job.

    Raises:
        OutputError: the file cannot be written.
    """
    name = f"{BATCH}/{job.display_name}{REJECTED_SUFFIX}"
    dataset.write_json(name, to_plain(_Rejections(tuple(texts))))


def rejected_by(dataset: Dataset, job: BatchJob) -> Keys:
    """Return the keys of the texts of a job that the service rejected, ascending and distinct.

    Raises:
        OutputError: the file is damaged, or cannot be read.
    """
    return _keys_in(dataset, f"{job.display_name}{REJECTED_SUFFIX}")


def rejected_keys(dataset: Dataset) -> Keys:
    """Return the keys of the texts that the service rejected in any job, ascending and distinct.

    Raises:
        OutputError: as `read_rejected`.
    """
    with concurrent.futures.ThreadPoolExecutor(READ_THREADS) as pool:
        found = pool.map(lambda name: _keys_in(dataset, name), _rejected_names(dataset))
        return np.unique(np.concatenate([np.empty(0, np.uint64), *found]))


def read_rejected(dataset: Dataset) -> dict[bytes, RejectedText]:
    """Return the texts that the service rejected in batch jobs, by their hashes.

    Raises:
        OutputError: a file is damaged, or cannot be read.
    """
    with concurrent.futures.ThreadPoolExecutor(READ_THREADS) as pool:
        found = pool.map(lambda name: _read(dataset, name), _rejected_names(dataset))
        return {bytes.fromhex(text.hash): text for file in found for text in file.texts}


def _rejected_names(dataset: Dataset) -> list[str]:
    return [name for name in dataset.names(BATCH) if name.endswith(REJECTED_SUFFIX)]


def _keys_in(dataset: Dataset, name: str) -> Keys:
    texts = _read(dataset, name).texts
    return np.unique(keys([bytes.fromhex(text.hash) for text in texts]))


def _read(dataset: Dataset, name: str) -> _Rejections:
    content = dataset.read_json(f"{BATCH}/{name}")
    try:
        return _Rejections(()) if content is None else from_plain(content, _Rejections)
    except ValueError as error:
        raise dataset.damaged_file(f"{BATCH}/{name}", str(error)) from None
