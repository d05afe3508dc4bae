"""`--output 'embeddings/dt={date}'`: a dataset for each day."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.cli import bulkembed, read, run, write_rows


def test_each_day_has_its_dataset_which_takes_the_vectors_of_the_day_before(
    tmp_path: Path,
) -> None:
    for day in ("2024-01-31", "2024-02-01"):
        write_rows(tmp_path / f"in/dt={day}/a.parquet", ["a dog", "a cat", day])
    source, output = f"{tmp_path}/in/dt={{date}}", f"{tmp_path}/out/dt={{date}}"
    flags = ("--dim", 128, "--keep-columns", "dt")
    assert run(None, source, output, *flags, "--date", "2024-01-31").code == 0
    reuse = ("--reuse", f"{tmp_path}/out/dt={{date-1}}")
    ended = run(None, source, output, *flags, "--date", "2024-02-01", *reuse)
    assert ended.code == 0, ended.err
    for day in ("2024-01-31", "2024-02-01"):
        dataset = tmp_path / f"out/dt={day}"
        assert [str(one) for one in read(dataset)["dt"].to_pylist()] == [day] * 3
        settings = json.loads((dataset / "_run/run.json").read_text())["settings"]
        assert (settings["date"], settings["output"]) == (day, str(dataset))
        assert settings["patterns"] == [f"{tmp_path}/in/dt={day}"]
        verified = bulkembed("verify", dataset, "--against", f"{tmp_path}/in/dt={day}")
        assert verified.code == 0, verified.out


def test_without_a_date_the_log_names_the_day(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.parquet", ["a dog"])
    ended = run(None, source, f"{tmp_path}/{{date}}", "--dim", 128)
    assert ended.code == 0, ended.err
    (dataset,) = tmp_path.glob("2*")
    assert f"the date in paths is {dataset.name}, today in UTC" in ended.err


@pytest.mark.parametrize("date", ["2024-02-30", "20240131", "yesterday"])
def test_what_is_not_a_date_is_rejected(tmp_path: Path, date: str) -> None:
    ended = run(None, tmp_path, f"{tmp_path}/{{date}}", "--date", date)
    assert ended.code == 2
    assert f"'{date}' is not a date. Write YYYY-MM-DD" in ended.err
