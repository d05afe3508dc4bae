"""A vector database: load a dataset into LanceDB and into DuckDB, and search there.

Both read the Parquet files as they are.  The answer to be held against is exact: all cosines by
numpy.  Without an index LanceDB and DuckDB must give the same neighbours; with one LanceDB looks at
a part of the rows only, and recall@10 says how many of the ten nearest it still finds.

Both are imported when the job is done: LanceDB does not go with processes that fork later on.
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
    place,
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
    """The queries: first lines of docstrings taken by chance."""
    picked = random.Random(0).sample(rows, QUERIES)
    return [{**row, "text": row["text"].splitlines()[0]} for row in picked]


def into_lancedb(parts: Path, folder: Path) -> Table:
    """The Parquet files as a table of LanceDB."""
    import lancedb

    database = lancedb.connect(folder)
    database.drop_table("docstrings", ignore_missing=True)
    return database.create_table("docstrings", ds.dataset(parts).to_table())


def give_index(table: Table) -> None:
    """An index for LanceDB: rows in partitions, of which a search looks into some."""
    from lancedb.index import IvfFlat

    config = IvfFlat(distance_type="cosine", num_partitions=PARTITIONS)
    table.create_index("vector", config=config, replace=True)


def into_duckdb(parts: Path) -> duckdb.DuckDBPyConnection:
    """The Parquet files as a table of DuckDB, the vector as an array of fixed length."""
    import duckdb

    connection = duckdb.connect()
    connection.sql(
        f"CREATE TABLE docstrings AS "
        f"SELECT * REPLACE (vector::FLOAT[{DIM}] AS vector) FROM '{parts}/*.parquet'"
    )
    return connection


def ask_lancedb(table: Table, partitions: int = PARTITIONS, where: str = "") -> Search:
    """A search by cosine; an index, where there is one, looks into so many of its partitions."""

    def search(query: Floats) -> list[str]:
        asked = table.search(query).distance_type("cosine").nprobes(partitions).limit(K)
        found = asked.where(where, prefilter=True) if where else asked
        return list(found.select(["id", "_distance"]).to_arrow()["id"].to_pylist())

    return search


def ask_duckdb(connection: duckdb.DuckDBPyConnection, where: str = "true") -> Search:
    """A search by cosine over all rows that `where` leaves."""
    sql = f"""
        SELECT id FROM docstrings WHERE {where}
        ORDER BY array_cosine_distance(vector, ?::FLOAT[{DIM}]) LIMIT {K}
    """
    return lambda query: [row[0] for row in connection.execute(sql, [query]).fetchall()]


def recall(search: Search, queries: Floats, exact: list[list[str]]) -> float:
    """How many of the ten nearest rows a search finds, on average."""
    pairs = zip(queries, exact, strict=True)
    return float(np.mean([len({*search(query)} & {*ids}) / K for query, ids in pairs]))


def draw(by_partitions: dict[int, float]) -> Figure:
    """Recall over the partitions that the index looks into, and the searches without one."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    looked_into, found = list(by_partitions), list(by_partitions.values())
    axes.plot(looked_into, found, color=BLUE, marker="o", label="LanceDB, IVF index")
    axes.axhline(1, color=VERMILION, linestyle="--", label="DuckDB, LanceDB without an index")
    axes.set(xlabel=f"partitions looked into, of {PARTITIONS}", ylabel=f"recall@{K}")
    axes.set(ylim=(0, 1.05), title=f"How many of the {K} nearest docstrings are found")
    axes.set_xticks(looked_into)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    return figure


def main() -> None:
    """Embeds docstrings and queries, loads both databases, compares, prints, draws."""
    folder = place("vector_database")
    texts = unique_docstrings(PACKAGES)
    lines = first_lines(texts)
    source = write(folder / "docstrings.parquet", texts)
    bulkembed(
        *("run", "--input", source, "--output", folder / "documents"),
        *("--task-type", "RETRIEVAL_DOCUMENT", "--dim", DIM, "--keep-columns", "package"),
    )
    asked = write(folder / "queries.parquet", lines)
    bulkembed(
        *("run", "--input", asked, "--output", folder / "queries"),
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
    print(f"{'DuckDB, all rows':<36}{recall(ask_duckdb(duck), queries, exact):>9.2f}")
    print(f"{'LanceDB, all rows':<36}{recall(ask_lancedb(lance), queries, exact):>9.2f}")
    give_index(lance)
    found = {n: recall(ask_lancedb(lance, n), queries, exact) for n in range(1, PARTITIONS + 1)}
    for looked_into in (PARTITIONS // 4, PARTITIONS // 2, PARTITIONS):
        name = f"LanceDB, {looked_into} of {PARTITIONS} partitions"
        print(f"{name:<36}{found[looked_into]:>9.2f}")

    where = f"package = '{lines[0]['package']}'"
    nearest = ask_duckdb(duck, where)(queries[0])
    same = nearest == ask_lancedb(lance, where=where)(queries[0])
    print(f"\n{lines[0]['text']!r} where {where}:")
    print("\n".join(f"    {name}" for name in nearest[:3]))
    print(f"DuckDB and LanceDB agree on the first {K}: {'yes' if same else 'no'}")
    save(draw(found), "vector_database", service)


if __name__ == "__main__":
    main()
