"""Units committed without a run: rows with vectors, then dead letters, with ids by row."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.job import OutputConfig
from bulkembed.schemas.output_schema import PASSAGES, ROWS_KEY
from bulkembed.schemas.units import Unit, UnitRecord
from bulkembed.transforms.dataset.commit import UnitTables, commit_unit
from bulkembed.transforms.dataset.dataset import Dataset

KEY = "0123456789abcdef"
DIGEST = "fedcba9876543210"


def commit(
    dataset: Dataset,
    embedded: int,
    codes: Sequence[DeadCode] = (),
    passages: int = 0,
    *,
    key: str = KEY,
    first_row: int = 0,
    run_number: int = 1,
    first_id: int = 0,
) -> UnitRecord:
    """Commit a unit of the file `<key>.parquet`; its ids are the numbers of rows."""
    rows = embedded + len(codes)
    name = f"{key}.parquet"
    record = UnitRecord(
        Unit(key, first_row, rows), embedded,
        sum(not code.is_skip for code in codes), sum(code.is_skip for code in codes),
        source_file=name, run_id=f"run-{run_number}",
        codes=tuple(sorted((code, codes.count(code)) for code in set(codes))),
        vectors=embedded * (passages or 1), run_number=run_number, embedding_digest=DIGEST,
    )  # fmt: skip
    with_vectors = np.repeat(np.arange(embedded), passages or 1)
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False), 2)
    flat = pa.array(np.repeat(with_vectors + first_row, 2).astype("float32"))
    columns = {
        "id": with_vectors + first_row + first_id,
        "vector": pa.FixedSizeListArray.from_arrays(flat, type=kind),
        "text_hash": pa.array(
            [_hash(f"{key} {row + first_row}") for row in with_vectors], pa.binary(16)
        ),
        "truncated": [False] * len(with_vectors),
        "source_file": [name] * len(with_vectors),
        "source_row": with_vectors + first_row,
    }
    if passages:
        columns["passage"] = np.tile(np.arange(passages, dtype=np.int32), embedded)
    vectors = pa.table(columns)
    if passages:
        vectors = vectors.replace_schema_metadata({ROWS_KEY: PASSAGES})
    failed = np.arange(embedded, rows) + first_row
    dead = pa.table(
        {
            "id": failed + first_id,
            "source_file": [name] * len(failed),
            "source_row": failed,
            "code": list(map(str, codes)),
        }
    )
    tables = UnitTables(vectors, dead)
    return commit_unit(dataset, OutputConfig(uri=dataset.root), record, tables)


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def ids(dataset: Dataset, folder: str) -> list[int]:
    """Return the ids of all parts in a folder, as a reader of the folder sees them."""
    root = Path(dataset.path(folder))
    paths = sorted(root.glob("*.parquet"))
    return [one for path in paths for one in pq.read_table(path)["id"].to_pylist()]
