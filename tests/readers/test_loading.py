"""docs/load.md: each program, run after each of two runs, leaves the rows of the dataset."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.pages import ELSEWHERE, ROOT, of_language, run_snippets

pytestmark = pytest.mark.readers

PAGE = ROOT / "docs/load.md"
MAX_LINES = 10
"""Of a recipe, besides its imports. A longer one should be a command."""
IMPORT = ("import ", "from ", "#")
EXPECTED = """
import pyarrow.dataset as ds

columns = ["id", "price", "vector"]
rows = ds.dataset("out/shop/vectors").to_table(columns=columns).sort_by("id").to_pylist()
assert len(rows) == 3
expected = [(row["id"], row["price"], row["vector"]) for row in rows]
"""
POSTGRES = """
import os, tempfile
import pgserver

folder = tempfile.mkdtemp(prefix="pgserver-")
os.chmod(folder, 0o755)  # Root's server runs as another user.
os.environ["DATABASE_URL"] = pgserver.get_server(folder).get_uri()
"""
IN_POSTGRES = """
import json, os
import numpy as np
import psycopg

with psycopg.connect(os.environ["DATABASE_URL"]) as database:
    found = database.execute("SELECT id, price, vector::text FROM products ORDER BY id").fetchall()
found = [(*row, np.float32(json.loads(vector)).tolist()) for *row, vector in found]
"""
IN_LANCEDB = """
import lancedb

rows = lancedb.connect("out/lance").open_table("products").to_arrow().sort_by("id").to_pylist()
found = [(row["id"], row["price"], row["vector"]) for row in rows]
"""
BIGQUERY = """
import duckdb
from google.cloud import bigquery

class Client:
    '''Google's client as far as the program uses it, with DuckDB in place of the service.'''

    database = duckdb.connect("warehouse.duckdb")

    def load_table_from_file(self, file, table, job_config):
        assert job_config.to_api_repr()["load"] == {
            "parquetOptions": {"enableListInference": True},
            "sourceFormat": "PARQUET",
            "writeDisposition": "WRITE_TRUNCATE",
        }
        return self.query(f"CREATE OR REPLACE TABLE {table} AS SELECT * FROM '{file.name}'")

    def query(self, sql):
        self.database.execute("CREATE SCHEMA IF NOT EXISTS shop")
        self.database.execute(sql)
        return self

    def result(self):
        return self

bigquery.Client = Client
"""
IN_BIGQUERY = """
from google.cloud import bigquery

select = "SELECT id, price, vector FROM shop.products ORDER BY id"
found = [(*row[:2], list(row[2])) for row in bigquery.Client.database.execute(select).fetchall()]
"""


def checked(found: str) -> str:
    """Return a program that compares what a database has with the dataset."""
    return f"{EXPECTED}{found}\nassert found == expected, [row[:2] for row in found]"


no_pgserver = pytest.mark.skipif(sys.version_info >= (3, 13), reason="pgserver has no wheel for it")


@pytest.mark.parametrize(
    ("package", "before", "found"),
    [
        pytest.param("psycopg", POSTGRES, IN_POSTGRES, id="pgvector", marks=no_pgserver),
        pytest.param("lancedb", "", IN_LANCEDB, id="LanceDB"),
        pytest.param("google-cloud-bigquery", BIGQUERY, IN_BIGQUERY, id="BigQuery"),
    ],
)
def test_a_database_has_the_rows_of_the_dataset_after_each_run(
    package: str,
    before: str,
    found: str,
    workplace: Path,
    elsewhere: dict[str, str],
    python: str,
) -> None:
    first, second, *_ = of_language(PAGE, "bash")
    programs = of_language(PAGE, "python")
    [program] = [code for code in programs if code.startswith(f"{ELSEWHERE}{package}\n")]
    lines = [line for line in program.splitlines() if line and not line.startswith(IMPORT)]
    assert len(lines) <= MAX_LINES
    apply = [program, program, checked(found)]
    night = f"import subprocess\nsubprocess.run(['bash', '-euc', {second!r}], check=True)"
    run_snippets("bash", [first], workplace, elsewhere)
    run_snippets("python", [before, *apply, night, *apply], workplace, elsewhere, python)
