"""docs/partitions.md: Spark reads the values from the names of folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.cli import process, run, write_rows

from bulkembed.emulator.server import EmulatorServer

pytestmark = [
    pytest.mark.readers,
    pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java 17"),
]

VALUES = [
    "plain", "a b", "a/b", "ä", "日本", "x=y", "50%", "%41", "a+b", "C:\\x", "q?#&", "'\"{}[]^*",
    "line\nbreak", "dot.", "007", None,
]  # fmt: skip
READ = """
import json, sys
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", False)
spark = spark.config("spark.sql.sources.partitionColumnTypeInference.enabled", False).getOrCreate()
rows = spark.read.parquet(sys.argv[1]).select("id", "lang").orderBy("id").collect()
print(json.dumps([row.lang for row in rows]))
"""


def test_spark_reads_the_values(tmp_path: Path, server: EmulatorServer, python: str) -> None:
    source = write_rows(tmp_path / "in/a.parquet", map(str, range(len(VALUES))), lang=VALUES)
    args = ("--dim", 128, "--keep-columns", "lang", "--partition-by", "lang")
    assert run(server.url, source, tmp_path / "out", *args).code == 0
    ended = process(python, "-c", READ, str(tmp_path / "out/vectors"), timeout_s=100)
    assert ended.code == 0, ended.err
    assert json.loads(ended.out.splitlines()[-1]) == VALUES


def test_spark_does_not_read_an_empty_value(
    tmp_path: Path, server: EmulatorServer, python: str
) -> None:
    source = write_rows(tmp_path / "in/a.parquet", ["a", "b"], lang=["de", ""])
    args = ("--dim", 128, "--keep-columns", "lang", "--partition-by", "lang")
    assert run(server.url, source, tmp_path / "out", *args).code == 0
    ended = process(python, "-c", READ, str(tmp_path / "out/vectors"), timeout_s=100)
    assert "EMPTY_PARTITION_COLUMN_VALUE" in ended.err
