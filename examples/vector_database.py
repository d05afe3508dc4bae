"""A vector database: load a dataset into LanceDB and into DuckDB, and search there.

Both read the Parquet files directly. The reference is exact: numpy computes all cosines. Without
an index LanceDB and DuckDB must return the same neighbours. With an index LanceDB searches only
part of the rows, and recall@10 is the share of the ten nearest rows that it still finds.

Both are imported after the job: LanceDB does not support processes that fork later.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.dataset as ds
from matplotlib.figure import Figure

from examples.shared import (
    BLUE,
    DIM,
    VERMILION,
    Floats,
    bulkembed,
    folder_of,
    read,
    save,
    unique_docstrings,
    write,
)

if TYPE_CHECKING:
    import duckdb
    from lancedb.table import Table

PACKAGES = (
    *("asyncio", "collections", "concurrent", "ctypes", "email", "encodings", "http", "importlib"),
    *("inspect", "json", "logging", "mailbox", "multiprocessing", "pathlib", "sqlite3", "tarfile"),
    *("threading", "typing", "unittest", "urllib", "xml", "xmlrpc", "zipfile"),
)
QUERIES = 100
PARTITIONS = 8
K = 10

Search = Callable[[Floats], list[str]]
"""From a query's vector to the ids of the ten nearest rows."""


def first_lines(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return the queries: the first lines of a random sample of docstrings."""
    picked = random.Random(0).sample(rows, QUERIES)
    return [{**row, "text": row["text"].splitlines()[0]} for row in picked]


def into_lancedb(parts: Path, folder: Path) -> Table:
    """Load the Parquet files into a table of LanceDB."""
    import lancedb

    database = lancedb.connect(folder)
    database.drop_table("docstrings", ignore_missing=True)
    return database.create_table("docstrings", ds.dataset(parts).to_table())


def add_index(table: Table) -> None:
    """Add an index to a table of LanceDB: a search looks into some of its partitions."""
    from lancedb.index import IvfFlat

    config = IvfFlat(distance_type="cosine", num_partitions=PARTITIONS)
    table.create_index("vector", config=config, replace=True)


def into_duckdb(parts: Path) -> duckdb.DuckDBPyConnection:
    """Load the Parquet files into a table of DuckDB, with vectors as arrays of fixed length."""
    import duckdb

    connection = duckdb.connect()
    connection.sql(
        f"CREATE TABLE docstrings AS "
        f"SELECT * REPLACE (vector::FLOAT[{DIM}] AS vector) FROM '{parts}/*.parquet'"
    )
    return connection


def lancedb_search(table: Table, partitions: int = PARTITIONS, where: str = "") -> Search:
    """Return a search by cosine, which looks into this many partitions of an index."""

    def search(query: Floats) -> list[str]:
        nearest = table.search(query).distance_type("cosine").nprobes(partitions).limit(K)
        found = nearest.where(where, prefilter=True) if where else nearest
        return list(found.select(["id", "_distance"]).to_arrow()["id"].to_pylist())

    return search


def duckdb_search(connection: duckdb.DuckDBPyConnection, where: str = "true") -> Search:
    """Return a search by cosine over all rows that match `where`."""
    sql = f"""
        SELECT id FROM docstrings WHERE {where}
        ORDER BY array_cosine_distance(vector, ?::FLOAT[{DIM}]) LIMIT {K}
    """
    return lambda query: [row[0] for row in connection.execute(sql, [query]).fetchall()]


def recall(search: Search, queries: Floats, exact: list[list[str]]) -> float:
    """Return the average share of the ten nearest rows that a search finds."""
    pairs = zip(queries, exact, strict=True)
    return float(np.mean([len({*search(query)} & {*ids}) / K for query, ids in pairs]))


def draw(by_partitions: dict[int, float]) -> Figure:
    """Draw recall by the number of partitions that are searched, and without an index."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    searched, found = list(by_partitions), list(by_partitions.values())
    axes.plot(searched, found, color=BLUE, marker="o", label="LanceDB, IVF index")
    axes.axhline(1, color=VERMILION, linestyle="--", label="DuckDB, LanceDB without an index")
    axes.set(xlabel=f"partitions searched, of {PARTITIONS}", ylabel=f"recall@{K}")
    axes.set(ylim=(0, 1.05), title=f"How many of the {K} nearest docstrings are found")
    axes.set_xticks(searched)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    return figure


def main() -> None:
    """Run the example."""
    folder = folder_of("vector_database")
    texts = unique_docstrings(PACKAGES)
    lines = first_lines(texts)
    source = write(folder / "docstrings.parquet", texts)
    bulkembed(
        *("run", "--input", source, "--output", folder / "documents"),
        *("--task-type", "RETRIEVAL_DOCUMENT", "--dim", DIM, "--keep-columns", "package"),
    )
    query_file = write(folder / "queries.parquet", lines)
    bulkembed(
        *("run", "--input", query_file, "--output", folder / "queries"),
        *("--task-type", "RETRIEVAL_QUERY", "--dim", DIM),
    )
    rows, vectors, service = read(folder / "documents")
    queries = read(folder / "queries").vectors
    ids = np.array([row["id"] for row in rows])
    exact = [list(ids[np.argsort(-(vectors @ query))[:K]]) for query in queries]

    lance = into_lancedb(folder / "documents/vectors", folder / "lancedb")
    duck = into_duckdb(folder / "documents/vectors")
    print(f"\nvectors by {service}")
    print(f"{len(rows):,} docstrings in both, {QUERIES} first lines of docstrings as queries\n")
    print(f"{'':<36}recall@{K}")
    print(f"{'DuckDB, all rows':<36}{recall(duckdb_search(duck), queries, exact):>9.2f}")
    print(f"{'LanceDB, all rows':<36}{recall(lancedb_search(lance), queries, exact):>9.2f}")
    add_index(lance)
    found = {n: recall(lancedb_search(lance, n), queries, exact) for n in range(1, PARTITIONS + 1)}
    for searched in (PARTITIONS // 4, PARTITIONS // 2, PARTITIONS):
        name = f"LanceDB, {searched} of {PARTITIONS} partitions"
        print(f"{name:<36}{found[searched]:>9.2f}")

    where = f"package = '{lines[0]['package']}'"
    nearest = duckdb_search(duck, where)(queries[0])
    same = nearest == lancedb_search(lance, where=where)(queries[0])
    print(f"\n{lines[0]['text']!r} where {where}:")
    print("\n".join(f"    {name}" for name in nearest[:3]))
    print(f"DuckDB and LanceDB agree on the first {K}: {'yes' if same else 'no'}")
    save(draw(found), "vector_database", service)


if __name__ == "__main__":
    main()
