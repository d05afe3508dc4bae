"""`bulkembed status`: the state by the commit records, also during a run."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from support.cli import bulkembed, process, run, write_rows
from support.killing import Job, ended, wait_for

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings


def a_dataset(tmp_path: Path, *args: object) -> Path:
    texts = [f"text {n}" for n in range(20)]
    texts[3], texts[4], texts[5] = "poison", "", "poison"
    source = write_rows(tmp_path / "in/a.parquet", texts)
    with EmulatorServer(EmulatorSettings(poison="poison")) as server:
        ended = run(server.url, source, tmp_path / "out", "--dim", 128, "--unit-rows", 10, *args)
        assert ended.code == 0, ended.err
    return tmp_path / "out"


def test_the_status_has_rows_reasons_and_cost(tmp_path: Path) -> None:
    shown = bulkembed("status", a_dataset(tmp_path))
    assert shown.code == 0
    lines = {line.split("  ")[0].strip(): line for line in shown.out.splitlines()}
    assert "complete" in lines["state"]
    assert "20 in: 17 embedded, 1 skipped (blank), 2 failed, 0 remaining" in lines["rows"]
    assert re.search(r"^ *refused +2$", shown.out, re.MULTILINE)
    assert "17 texts" in lines["requests"]
    assert "tokens" in lines["cost"]


def test_remaining_rows_are_counted_by_the_last_plan(tmp_path: Path) -> None:
    output = a_dataset(tmp_path, "--limit-rows", 10)
    found = json.loads(bulkembed("status", output, "--json").out)
    assert found["rows"] == {"rows_in": 20, "embedded": 7, "dead": 2, "skipped": 1, "left": 10}
    assert found["codes"] == {"blank_text": 1, "refused": 2}
    assert found["counts"]["texts"] == 7
    assert found["complete"] is False
    assert found["runner"] is None


def test_a_current_run_is_named_and_not_disturbed(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "a.parquet", [f"text {n}" for n in range(300)])
    with EmulatorServer(EmulatorSettings(latency_ms=400)) as server:
        args = ("--dim", "128", "--unit-rows", "50", "--concurrency", "1")
        job = Job(server, source, tmp_path / "out", args)
        working = job.start()
        wait_for(lambda: bool(list(job.output.glob("_run/units/[0-9a-f]*.json"))))
        found = json.loads(bulkembed("status", job.output, "--json").out)
        assert ended(working).code == 0
    assert f"process {working.pid} on" in found["runner"]
    assert 0 < found["rows"]["embedded"] < 300
    assert found["complete"] is False


def test_a_missing_dataset_is_a_usage_error(tmp_path: Path) -> None:
    shown = bulkembed("status", tmp_path)
    assert shown.code == 2
    assert "there is no dataset" in shown.last


def test_status_imports_neither_beam_nor_the_sdk(tmp_path: Path) -> None:
    look = (
        "import sys\nfrom bulkembed.pipeline.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'apache_beam', 'google.genai'} & set(sys.modules)\n"
    )
    shown = process(sys.executable, "-c", look, "status", str(a_dataset(tmp_path)))
    assert shown.code == 0, shown.err
