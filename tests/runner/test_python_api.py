"""`bulkembed.run` and `bulkembed.status`: the commands as functions."""

from __future__ import annotations

import datetime as dt
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from support.cli import dead_codes, python, read, write_rows

import bulkembed
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.pipeline.api import _as_typed
from bulkembed.pipeline.cli.options import OPTIONS
from bulkembed.pipeline.run.summary import RunSummary
from bulkembed.schemas.job import VectorType


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "in.parquet", ["a dog", "a cat", None], lang=["de", "en", "fr"])


def test_run_returns_the_summary_and_status_reads_the_dataset(
    tmp_path: Path, source: Path, server: EmulatorServer, caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO, "bulkembed")
    output = tmp_path / "out"
    options: dict[str, Any] = {
        "input": [source],
        "output": output,
        "base_url": server.url,
        "dim": 128,
        "keep_columns": ["lang"],
        "vector_type": VectorType.FLOAT16,
        "timeout": dt.timedelta(seconds=90),
        "normalize": True,
        "max_runtime": None,
    }
    summary = bulkembed.run(**options)
    assert (summary.exit_code, summary.dataset.embedded, summary.dataset.skipped) == (0, 2, 1)
    assert read(output)["lang"].to_pylist() == ["de", "en"]
    assert dead_codes(output) == {2: "blank_text"}
    assert "3 input rows" in caplog.text
    assert capsys.readouterr() == ("", "")
    again = bulkembed.run(**options)
    assert again.run.rows_in == 0
    found = bulkembed.status(output)
    assert (found.complete, found.rows.embedded) == (True, 2)


def test_a_run_may_be_in_a_thread(tmp_path: Path, source: Path, server: EmulatorServer) -> None:
    found: list[RunSummary] = []

    def work() -> None:
        found.append(
            bulkembed.run(input=source, output=tmp_path / "out", base_url=server.url, dim=128)
        )

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert found[0].dataset.embedded == 2


def test_a_run_that_ends_early_raises_with_its_exit_code_and_summary(
    tmp_path: Path, source: Path
) -> None:
    day_spent = EmulatorServer(EmulatorSettings(rpd=1))
    with day_spent as server, pytest.raises(bulkembed.RunStopped) as stopped:
        bulkembed.run(input=source, output=tmp_path / "out", base_url=server.url, dim=128)
    assert stopped.value.exit_code is bulkembed.ExitCode.INCOMPLETE
    assert isinstance(stopped.value.summary, RunSummary)
    assert stopped.value.summary.run.left == 3
    texts = write_rows(tmp_path / "bad.parquet", [None] * 5)
    with pytest.raises(bulkembed.RunStopped) as stopped:
        bulkembed.run(
            input=[source, texts], output=tmp_path / "out2", emulator=True, dim=128,
            blank_text="stop",
        )  # fmt: skip
    assert stopped.value.exit_code == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param({"dimm": 8}, r"unknown argument 'dimm'\. Did you mean dim\?", id="unknown"),
        pytest.param({"dim": "x"}, r"--dim: 'x' is not a whole number", id="value"),
        pytest.param({"prune": "yes"}, r"prune must be True or False, not 'yes'", id="flag"),
        pytest.param({"log_level": "info"}, "Configure the logger 'bulkembed'", id="log"),
        pytest.param({"input": None}, r"--input is missing", id="missing"),
        pytest.param({"input": "nowhere/*.jsonl"}, "no file matches", id="no-input"),
        pytest.param({"tier": "9"}, "unknown value '9'", id="choice"),
    ],
)
def test_wrong_options_are_errors_of_the_configuration(
    tmp_path: Path, source: Path, options: dict[str, Any], words: str
) -> None:
    given = {"input": source, "output": tmp_path / "out", "emulator": True} | options
    with pytest.raises(bulkembed.ConfigError, match=words) as error:
        bulkembed.run(**given)
    assert error.value.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_a_dataset_that_does_not_exist_has_no_status(tmp_path: Path) -> None:
    with pytest.raises(bulkembed.ConfigError, match="there is no dataset"):
        bulkembed.status(tmp_path)


def test_a_flag_that_is_off_outranks_the_environment(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BULKEMBED_RUN_GENERATE_IDS", "1")
    monkeypatch.setenv("BULKEMBED_RUN_DIM", "256")
    bulkembed.run(input=source, output=tmp_path / "a", emulator=True, dim=128)
    assert read(tmp_path / "a")["id"].to_pylist() == ["in.parquet#0", "in.parquet#1"]
    bulkembed.run(input=source, output=tmp_path / "b", emulator=True, generate_ids=False)
    table = read(tmp_path / "b")
    assert (table["id"].to_pylist(), table["vector"].type.list_size) == ([0, 1], 256)


def test_a_config_file_and_a_date_work_as_for_the_command(tmp_path: Path, source: Path) -> None:
    (tmp_path / "job.yaml").write_text(
        f"input: {source}\noutput: {tmp_path}/out/{{date}}\ndim: 128\nemulator: true\n"
    )
    summary = bulkembed.run(config=tmp_path / "job.yaml", date=dt.date(2024, 1, 31))
    assert summary.output == f"{tmp_path}/out/2024-01-31"


def test_every_option_of_the_command_is_an_argument() -> None:
    known = {one.opts[0].removeprefix("--").replace("-", "_"): one for one in OPTIONS}
    for name, option in known.items():
        if name in ("log_level", "log_json"):
            continue
        value: Any = True if option.is_flag else "1"
        args, _ = _as_typed(OPTIONS, {name: value})
        assert args == [option.opts[0] if option.is_flag else f"{option.opts[0]}=1"]


def test_the_key_is_not_in_the_log_of_another_program(
    tmp_path: Path, source: Path, server: EmulatorServer
) -> None:
    program = f"""
import logging, bulkembed
logging.basicConfig(level=logging.DEBUG)
logging.getLogger("apache_beam").setLevel(logging.ERROR)
summary = bulkembed.run(input={str(source)!r}, output={str(tmp_path / "out")!r},
                        base_url={server.url!r}, dim=128)
logging.getLogger("bulkembed").info("the key is %s", "secret-api-key-1234567890")
print(summary.dataset.embedded)
"""
    ended = python("-c", program, GOOGLE_API_KEY="secret-api-key-1234567890")
    assert ended.out == "2\n", ended.err
    assert "INFO:bulkembed:" in ended.err
    assert "secret-api-key" not in ended.err


def test_changes_are_batches_since_a_run_or_a_time(tmp_path: Path, source: Path) -> None:
    output = tmp_path / "out"
    options: dict[str, Any] = {"input": source, "output": output, "emulator": True, "dim": 128}
    bulkembed.run(**options)
    with bulkembed.changes(output) as found:
        first = found.run_id
        assert [batch.column("change").to_pylist() for batch in found.batches()] == [["added"] * 2]
    write_rows(source, ["a dog", "rain"], lang=["de", "en"])
    bulkembed.run(**options)
    before = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    for since, changed in ((first, [1]), (None, [1]), (before, [])):
        with bulkembed.changes(output, since, with_vectors=True) as found:
            batches = list(found.batches())
        assert [row for batch in batches for row in batch.column("id").to_pylist()] == changed
    assert "vector" in found.schema.names
    with pytest.raises(bulkembed.ConfigError, match="invalid --since"):
        bulkembed.changes(output, "yesterday").__enter__()


STOPPED_BY_A_SIGNAL = """
import os, signal, sys, threading, time
from pathlib import Path
import bulkembed
source, output, url = sys.argv[1:]

def interrupt():
    while not any(Path(output).glob("_run/units/*.json")):
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=interrupt, daemon=True).start()
options = dict(input=source, output=output, base_url=url, dim=128, unit_rows=20, concurrency=1)
try:
    bulkembed.run(**options)
except bulkembed.RunStopped as error:
    print(int(error.exit_code), error.summary.run.left > 0, "interrupted" in error.message)
print(bulkembed.run(**options).dataset.left)
"""


def test_a_signal_stops_a_run_cleanly_and_the_next_call_resumes(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in.parquet", [f"text {n}" for n in range(800)])
    with EmulatorServer(EmulatorSettings(latency_ms=200)) as server:
        args = ("-c", STOPPED_BY_A_SIGNAL, str(source), str(tmp_path / "out"), server.url)
        ended = python(*args)
    assert ended.out.splitlines() == ["75 True True", "0"], ended.err
