"""The texts of sampled rows: from a kept column, else from the input where it is as it was."""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from bulkembed.pipeline.report.sample import SampledRow
from bulkembed.pipeline.run.plan import planned_files
from bulkembed.pipeline.verify.comparison import source_text
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.errors import ConfigError, InputError
from bulkembed.schemas.inputs import InputColumns, InputFile
from bulkembed.transforms.core.content import sent_hash
from bulkembed.transforms.core.tokens import TokenEstimator
from bulkembed.transforms.dataset import run_file
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.inputs.filesystems import names_a_host, open_found
from bulkembed.transforms.inputs.input_files import read_batches

MOST_CHARS = 2000
"""Of a text in memory."""
MOST_SECONDS = 5.0
"""After which no further row is read: the input may be distant, or large."""
MOST_COMPRESSED_BYTES = 64 << 20
"""A compressed file is decoded from its beginning; a larger one is not."""


@dataclasses.dataclass(frozen=True, slots=True)
class SampledText:
    """The beginning of a row's text, and its length as a whole."""

    text: str
    tokens: int
    """Estimated from its characters."""


def texts_of(
    dataset: Dataset, pinned: dict[str, Any], rows: Sequence[SampledRow]
) -> list[SampledText | None]:
    """The text of each row; None where it is not found any more.

    What is read from the input has the hash of what was embedded: nothing is shown that was not.

    Args:
        dataset: whose rows they are.
        pinned: the content of its `run.json`.
        rows: in any order.
    """
    found: dict[int, str] = {
        at: row.kept_text for at, row in enumerate(rows) if row.kept_text is not None
    }
    if len(found) < len(rows):
        missing = [at for at in range(len(rows)) if at not in found]
        read = _input_texts(dataset, pinned, [rows[at] for at in missing])
        found.update((missing[at], text) for at, text in read)
    estimator = TokenEstimator(EmbeddingConfig.from_facts(pinned["embedding"]).spec.max_tokens)
    return [_sampled(found[at], estimator) if at in found else None for at in range(len(rows))]


def input_columns(pinned: dict[str, Any]) -> InputColumns:
    """The columns that a text was made of; no id, and nothing kept."""
    layout = pinned["layout"]
    is_template = run_file.template_of(pinned) is not None
    return InputColumns(
        id_column=None,
        text_column=None if is_template else layout["text"],
        text_template=layout["text"] if is_template else None,
        title_column=layout["title_column"],
    )


def _sampled(text: str, estimator: TokenEstimator) -> SampledText:
    return SampledText(text[:MOST_CHARS], estimator.estimate(text))


def _input_texts(
    dataset: Dataset, pinned: dict[str, Any], rows: Sequence[SampledRow]
) -> Iterator[tuple[int, str]]:
    """Rows by their place among the given ones, and their texts, as long as there is time."""
    until = time.monotonic() + MOST_SECONDS
    embedding, columns = EmbeddingConfig.from_facts(pinned["embedding"]), input_columns(pinned)
    files = planned_files(dataset)
    by_file: dict[str, list[int]] = collections.defaultdict(list)
    for at, row in enumerate(rows):
        by_file[row.file_key].append(at)
    for key, places in by_file.items():
        file = files.get(key)
        if file is None or not _is_quick(file) or names_a_host(file.found.store):
            continue  # A dataset may say anything: no credentials are sent to a host that it names.
        places.sort(key=lambda at: rows[at].source_row)
        try:
            for at, text in _file_texts(file, columns, embedding, rows, places):
                if text is not None:
                    yield at, text
                if time.monotonic() > until:
                    return
        except (ConfigError, InputError):
            continue  # It is gone, or is not what was embedded.


def _is_quick(file: InputFile) -> bool:
    return file.can_seek or file.found.size_bytes <= MOST_COMPRESSED_BYTES


def _file_texts(
    file: InputFile,
    columns: InputColumns,
    embedding: EmbeddingConfig,
    rows: Sequence[SampledRow],
    places: Sequence[int],
) -> Iterator[tuple[int, str | None]]:
    """The texts of one file's rows; None where it is not the one that was embedded."""
    schema = pa.schema([("id", pa.string())])
    by_row: dict[int, list[int]] = collections.defaultdict(list)  # Passages may share one.
    for at in places:
        by_row[rows[at].source_row].append(at)
    spans = [(source_row, 1) for source_row in by_row]
    runs = read_batches(open_found(file.found), file, columns, schema, spans)
    for run, same_row in zip(runs, by_row.values(), strict=True):
        for at in same_row:
            title, text, _ = source_text(run, dataclasses.asdict(rows[at]))
            same = text is not None and sent_hash(embedding, title, text) == rows[at].text_hash
            yield at, text if same else None
