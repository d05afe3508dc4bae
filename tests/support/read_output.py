"""What a reader makes of a folder: run by the Python that has the reader, without anything of ours.

    python read_output.py READER VECTORS FOLDER...

prints a word for each folder: `yes`, the reader finds the rows of VECTORS with their vectors; `no`,
it ends with an error; `wrong`, it reads something else.
"""

from __future__ import annotations

import sys
from typing import Any

import pyarrow.dataset as ds

Read = tuple[list[str], list[Any]]
"""The columns, and the ids of all rows."""


def pandas(folder: str) -> Read:
    import pandas as pd

    frame = pd.read_parquet(folder)
    return list(frame.columns), list(frame["id"])


def pyarrow(folder: str) -> Read:
    table = ds.dataset(folder).to_table()
    return table.column_names, table["id"].to_pylist()


def polars(folder: str) -> Read:
    import polars as pl

    frame = pl.read_parquet(folder)
    return frame.columns, frame["id"].to_list()


def duckdb(folder: str) -> Read:
    import duckdb as duck

    rows = duck.sql(f"SELECT * FROM read_parquet('{folder}')")
    return rows.columns, [row[0] for row in rows.select("id").fetchall()]


def pyspark(folder: str) -> Read:
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", False)
    rows = builder.getOrCreate().read.parquet(folder)
    return rows.columns, [row["id"] for row in rows.collect()]


def datasets(folder: str) -> Read:
    import datasets as hf

    rows = hf.load_dataset(folder, split="train", cache_dir=f"{folder.rstrip('/')}-cache")
    return rows.column_names, list(rows["id"])


def outcome(reader: str, expected: list[Any], folder: str) -> str:
    """The word for a folder."""
    try:
        columns, ids = globals()[reader](folder)
    except Exception as error:  # Each has a way of its own to say that it cannot.
        print(type(error).__name__, str(error).splitlines()[:1], file=sys.stderr)
        return "no"
    return "yes" if "vector" in columns and sorted(ids) == expected else "wrong"


if __name__ == "__main__":
    _, name, vectors, *folders = sys.argv
    wanted = sorted(ds.dataset(vectors).to_table(columns=["id"])["id"].to_pylist())
    print(*(outcome(name, wanted, folder) for folder in folders))
