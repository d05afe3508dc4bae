"""What a reader makes of vectors: run by the Python that has the reader, without anything of ours.

    python read_vectors.py READER FOLDER...

prints a word for each folder: `yes`, the vectors are read as they are; `no`, they cannot be read;
`wrong`, they are read and are others.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pyarrow.dataset as ds


def pandas(folder: str) -> Any:
    """One array a row."""
    import pandas as pd

    return list(pd.read_parquet(folder)["vector"])


def polars(folder: str) -> Any:
    """Rows x dim."""
    import polars as pl

    return pl.read_parquet(f"{folder}/*.parquet")["vector"].to_numpy()


def duckdb(folder: str) -> Any:
    """One tuple a row."""
    import duckdb as duck

    rows = duck.sql(f"SELECT vector::FLOAT[768] FROM '{folder}/*.parquet'").fetchall()
    return [row[0] for row in rows]


def pyspark(folder: str) -> Any:
    """One list a row."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", False)
    return [row["vector"] for row in builder.getOrCreate().read.parquet(folder).collect()]


def lancedb(folder: str) -> Any:
    """One list a row."""
    import lancedb as lance

    vectors = ds.dataset(folder)
    database = lance.connect(f"{folder}/../lance")
    table = database.create_table("all", vectors.to_batches(), schema=vectors.schema)
    return table.to_arrow()["vector"].to_pylist()


def datasets(folder: str) -> Any:
    """Rows x dim."""
    import datasets as hf

    files, cache = f"{folder}/*.parquet", f"{folder}/../cache"
    rows = hf.load_dataset("parquet", data_files=files, split="train", cache_dir=cache)
    return rows.with_format("numpy")["vector"][:]


def outcome(reader: str, folder: str) -> str:
    """The word for a folder."""
    column = ds.dataset(folder).to_table()["vector"].combine_chunks()
    expected = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
    try:
        found = globals()[reader](folder)
    except Exception as error:  # Each has a way of its own to say that it cannot.
        print(type(error).__name__, str(error).splitlines()[:1], file=sys.stderr)
        return "no"
    return "yes" if np.array_equal(np.array(found), expected) else "wrong"


if __name__ == "__main__":
    _, name, *folders = sys.argv
    print(*(outcome(name, folder) for folder in folders))
