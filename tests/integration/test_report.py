"""`bulkembed report`: the content of its page."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import altair as alt
import jsonschema
import orjson
import pytest
import vl_convert
from support.cli import bulkembed, run, write_rows
from support.report_page import Page
from support.terminal import Terminal

from bulkembed.emulator.batch_settings import BatchSettings
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.pipeline.report.page import _library

EVIL = "poison <img src=x onerror=alert(1)></script><script>alert(2)</script>"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    texts = [f"text {n % 40}" for n in range(60)]
    texts[3], texts[4] = EVIL, ""
    source = write_rows(tmp_path / "in/a.parquet", texts)
    settings = EmulatorSettings(poison="poison")
    out = tmp_path / "out"
    with EmulatorServer(settings) as server:
        ended = run(server.url, source, out, "--dim", 128, "--unit-rows", 10, "--rpm", 3000)
    assert ended.code == 0, ended.err
    return out


def test_the_page_shows_the_states_of_the_rows_and_the_cost(dataset: Path) -> None:
    ended = bulkembed("report", dataset)
    assert ended.code == 0, ended.err
    assert ended.out.strip() == f"{dataset}/_run/report.html"
    page = Page(dataset / "_run/report.html")
    assert {row["state"]: row["rows"] for row in page.rows("rows")} == {
        "embedded": 58, "skipped": 1, "failed": 1,
    }  # fmt: skip
    codes = {row["code"]: row["rows"] for row in page.rows("dead_letters")}
    assert codes == {"refused": 1, "blank_text": 1}
    paid, whole = (row["tokens"] for row in page.rows("cost"))
    assert 0 < paid < whole
    assert "a.parquet, row 3" in page.text


def test_the_page_shows_the_throughput_and_the_quota(dataset: Path) -> None:
    assert bulkembed("report", dataset).code == 0
    page = Page(dataset / "_run/report.html")
    *points, line = page.rows("rate")
    assert line == {"quota": 3000}
    assert max(point["texts"] for point in points) >= 38
    assert {row["calls"] for row in page.rows("latency")} == {"half", "95 %"}
    assert sum(row["calls"] for row in page.rows("problems") if row["what"] == "failed") >= 1


def test_the_charts_are_valid(dataset: Path) -> None:
    assert bulkembed("report", dataset).code == 0
    charts = Page(dataset / "_run/report.html").charts
    assert charts.keys() >= {"rows", "cost", "rate", "tokens", "latency", "map", "lengths"}
    for chart in charts.values():
        alt.Chart.from_dict(chart, validate=True)
    charts["rows"]["mark"] = "no mark"
    with pytest.raises(jsonschema.ValidationError):
        alt.Chart.from_dict(charts["rows"], validate=True)


def test_no_text_of_the_dataset_becomes_markup(dataset: Path) -> None:
    assert bulkembed("report", dataset).code == 0
    page = Page(dataset / "_run/report.html")
    assert "<img src=x onerror=alert(1)>" in page.text
    assert not [attrs for tag, attrs in page.tags if tag == "img"]
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 2


def test_the_page_loads_nothing_from_the_network(dataset: Path) -> None:
    assert bulkembed("report", dataset).code == 0
    page = Page(dataset / "_run/report.html")
    loaded = [v for tag, attrs in page.tags for k, v in attrs.items() if k in ("src", "href")]
    assert loaded == ["data:,"]
    [policy] = [a["content"] for _, a in page.tags if "http-equiv" in a]
    assert policy is not None
    assert "default-src 'none'" in policy


def test_the_page_does_not_contain_the_key(
    tmp_path: Path, server: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "AIza-very-secret")
    out = tmp_path / "out"
    source = write_rows(tmp_path / "in/a.parquet", ["one", "two"])
    ended = run(server.url, source, out, "--dim", 128, "--report")
    assert ended.code == 0, ended.err
    place = re.escape(f"{out}/_run/report.html")
    line = ended.out.splitlines()[-1]
    assert re.fullmatch(rf"report    {place} \([\d.]+ s, \d+ MB, without texts\)", line)
    assert b"very-secret" not in (out / "_run/report.html").read_bytes()


@pytest.mark.parametrize(
    ("flags", "has_page", "has_texts"),
    [
        pytest.param((), False, False, id="scheduled"),
        pytest.param(("--report",), True, False, id="on-request"),
        pytest.param(("--report", "--report-texts"), True, True, id="with-texts"),
        pytest.param(("--report-texts",), False, False, id="texts-alone"),
    ],
)
def test_a_scheduled_run_writes_a_page_and_texts_on_request_only(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...],
    has_page: bool,
    has_texts: bool,
) -> None:
    monkeypatch.delenv("BULKEMBED_RUN_REPORT")
    out = tmp_path / "out"
    texts = [f"Zanzibar number {n}" for n in range(40)]
    source = write_rows(tmp_path / "in/a.parquet", [*texts, "poison Zanzibar"])
    settings = EmulatorSettings(poison="poison")
    with EmulatorServer(settings) as service:
        ended = run(service.url, source, out, "--dim", 128, "--max-dead-letters", 2, *flags)
    assert ended.code == 0, ended.err
    page = out / "_run/report.html"
    assert page.exists() is has_page
    if has_page:
        assert ("Zanzibar" in page.read_text()) is has_texts
        assert "map" in Page(page).charts


def test_a_run_on_a_terminal_writes_a_page_with_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BULKEMBED_RUN_REPORT")
    out = tmp_path / "out"
    source = write_rows(tmp_path / "a.parquet", ["one", "two", "poison of Zanzibar"])
    with EmulatorServer(EmulatorSettings(poison="poison")) as server:
        where = ("--input", source, "--output", out, "--base-url", server.url)
        terminal = Terminal("run", *where, "--dim", "128")
        try:
            assert terminal.code() == 0
        finally:
            terminal.close()
    assert any(line.startswith("report    ") for line in terminal.lines)
    assert "Zanzibar" in (out / "_run/report.html").read_text()


def test_the_json_summary_has_what_the_report_took(tmp_path: Path, server: EmulatorServer) -> None:
    source = write_rows(tmp_path / "in/a.parquet", ["one", "two"])
    ended = run(server.url, source, tmp_path / "out", "--dim", 128, "--report", "--log-json")
    report = json.loads(ended.out)["summary"]["report"]
    assert report["path"] == f"{tmp_path}/out/_run/report.html"
    assert 0 < report["seconds"] < 300
    assert report["memory_bytes"] >= 0  # Memory that an earlier report left free is used again.
    assert report["has_texts"] is False


def test_the_report_command_leaves_texts_out_on_request(dataset: Path) -> None:
    assert bulkembed("report", dataset, "--no-report-texts").code == 0
    assert "src=x onerror=alert" not in (dataset / "_run/report.html").read_text()


def test_ids_that_are_the_texts_are_left_out_with_them(
    tmp_path: Path, server: EmulatorServer
) -> None:
    out = tmp_path / "out"
    source = tmp_path / "a.jsonl"
    source.write_text("".join(f'{{"name": "Zanzibar {n}"}}\n' for n in range(40)))
    columns = ("--id-column", "name", "--text-column", "name")
    ended = run(server.url, source, out, "--dim", 128, "--report", *columns)
    assert ended.code == 0, ended.err
    assert "Zanzibar" not in (out / "_run/report.html").read_text()


def test_a_run_without_work_and_a_run_with_no_report_write_no_page(
    tmp_path: Path, server: EmulatorServer
) -> None:
    out = tmp_path / "out"
    source = write_rows(tmp_path / "in/a.parquet", ["one", "two"])
    for flag in ("--no-report", "--report"):
        assert run(server.url, source, out, "--dim", 128, flag).code == 0
    assert not (out / "_run/report.html").exists()


def test_a_report_that_cannot_be_written_is_only_a_warning(
    tmp_path: Path, server: EmulatorServer
) -> None:
    out = tmp_path / "out"
    (out / "_run/report.html").mkdir(parents=True)
    source = write_rows(tmp_path / "in/a.parquet", ["one", "two"])
    ended = run(server.url, source, out, "--dim", 128, "--report")
    assert ended.code == 0
    assert "the report was not written" in ended.last
    assert (out / "_SUCCESS").exists()


OLD_PAGE = b"<title>out - bulkembed report</title>"


def test_a_page_of_an_earlier_version_is_moved_out_of_the_root(
    tmp_path: Path, server: EmulatorServer
) -> None:
    out = tmp_path / "out"
    source = write_rows(tmp_path / "in/a.parquet", ["one", "two"])
    assert run(server.url, source, out, "--dim", 128).code == 0
    (out / "report.html").write_bytes(OLD_PAGE)
    # A run that has nothing to do, and writes no page.
    assert run(server.url, source, out, "--dim", 128).code == 0
    assert not (out / "report.html").exists()
    assert (out / "_run/report.html").read_bytes() == OLD_PAGE
    (out / "report.html").write_bytes(OLD_PAGE)
    assert bulkembed("report", out).code == 0
    assert not (out / "report.html").exists()
    assert (out / "_run/report.html").read_bytes() != OLD_PAGE


def test_a_page_that_is_not_ours_stays_in_the_root(tmp_path: Path, server: EmulatorServer) -> None:
    out = tmp_path / "out"
    source = write_rows(tmp_path / "in/a.parquet", ["one", "two"])
    assert run(server.url, source, out, "--dim", 128).code == 0
    (out / "report.html").write_text("mine")
    assert run(server.url, source, out, "--dim", 128, "--overwrite").code == 0
    assert (out / "report.html").read_text() == "mine"
    assert not (out / "_run/report.html").exists()


def test_a_folder_without_a_dataset_is_an_error(tmp_path: Path) -> None:
    ended = bulkembed("report", tmp_path)
    assert ended.code == 2
    assert "there is no dataset" in ended.last
    assert not (tmp_path / "_run/report.html").exists()


def test_only_the_charts_over_time_are_missing_if_the_timeline_is_damaged(dataset: Path) -> None:
    [kept] = (dataset / "_run/timeline").iterdir()
    kept.write_bytes(orjson.dumps({"width_s": 1}))
    ended = bulkembed("report", dataset)
    assert ended.code == 0
    assert "_run/timeline" in ended.err
    assert "verify --repair" in ended.err
    charts = set(Page(dataset / "_run/report.html").charts)
    assert charts == {"rows", "cost", "dead_letters", "map", "lengths"}


def test_overwrite_deletes_the_page_and_timelines(dataset: Path, server: EmulatorServer) -> None:
    assert bulkembed("report", dataset).code == 0
    [old] = (dataset / "_run/timeline").iterdir()
    source = dataset.parent / "in"
    assert (
        run(server.url, source, dataset, "--dim", 128, "--overwrite", "--max-dead-letters", 9).code
        == 0
    )
    assert not (dataset / "_run/report.html").exists()
    assert not old.exists()
    assert bulkembed("verify", dataset).code == 0


BATCH = ("--dim", 128, "--unit-rows", 10, "--mode", "batch", "--batch-poll", "0.1s")
PRICE = ("--price-usd-per-mtok", 1000, "--price-factor", 0.25)


@pytest.fixture
def batch_dataset(tmp_path: Path) -> Path:
    """A dataset with a job that was answered, one that failed, and one that is open."""
    texts = [f"text {n + 100}" for n in range(40)]
    source = write_rows(tmp_path / "in/a.parquet", [*texts, *texts[:8]])
    out = tmp_path / "out"
    jobs = BatchSettings(outcomes=("succeeded", "failed", "hang"))
    with EmulatorServer(EmulatorSettings(batch=jobs)) as server:
        args = (*BATCH, *PRICE, "--batch-job-rows", 20)
        assert run(server.url, source, out, *args, "--detach").code == 75
        assert run(server.url, source, out, *args, "--detach").code == 75
    return out


def test_the_page_shows_the_batch_jobs(batch_dataset: Path) -> None:
    ended = bulkembed("report", batch_dataset)
    assert ended.code == 0, ended.err
    page = Page(batch_dataset / "_run/report.html")
    head, *rows = page.cells["batch"]
    found = [dict(zip(head, row, strict=True)) for row in rows[:3]]
    listed = json.loads(bulkembed("batches", batch_dataset, "--json").out)
    assert [row["job"] for row in found] == [job["name"] for job in reversed(listed)]
    again, failed, answered = found
    names = ("state", "texts", "answered", "no answer")
    assert [again[name] for name in names] == ["open", "20", "0", "0"]
    assert [failed[name] for name in names] == ["failed", "20", "0", "20"]
    assert [answered[name] for name in names] == [listed[0]["state"], "20", "20", "0"]
    assert again["tokens"].startswith("~")
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d", failed["created, UTC"])
    assert re.fullmatch(r"\d+ s", failed["took"])
    reason = listed[1]["reason"]
    assert reason
    assert failed["reason"] == reason
    assert rows[4:] == [[reason, "1", "20"]]
    tokens = listed[0]["tokens"]
    assert answered["tokens"] == f"{tokens}"
    assert float(answered["USD"]) == pytest.approx(tokens * 0.00025)
    assert "3 jobs, 1 of them open. 20 texts answered" in page.text
    assert f"Online requests would have cost {tokens / 1000:,.4f} USD" in page.text


def test_the_cost_of_a_batch_dataset_is_at_its_own_price(tmp_path: Path) -> None:
    texts = [f"text {n + 100}" for n in range(40)]
    source = write_rows(tmp_path / "in/a.parquet", [*texts, *texts[:20]])
    out = tmp_path / "out"
    with EmulatorServer() as server:
        assert run(server.url, source, out, *BATCH, *PRICE).code == 0
        tokens = server.stats()["batch"]["tokens"]
    assert bulkembed("report", out).code == 0
    page = Page(out / "_run/report.html")
    once, each = page.rows("cost")
    assert (once["tokens"], each["tokens"]) == (tokens, tokens * 3 // 2)
    assert once["USD"] == pytest.approx(tokens * 0.00025)
    assert each["USD"] == pytest.approx(tokens * 0.00025 * 1.5)
    assert "(20 duplicate rows)" in page.text
    assert "40texts sent" in page.text


def test_a_dataset_without_batch_jobs_has_no_section_for_them(dataset: Path) -> None:
    assert bulkembed("report", dataset).code == 0
    assert "batch" not in Page(dataset / "_run/report.html").cells


@pytest.mark.parametrize("program", [None, "/bin/false", "/nonexistent"])
def test_the_scripts_of_the_page_are_those_of_the_library(
    program: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if program is not None:
        monkeypatch.setattr(sys, "executable", program)
    expected = str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
    made = _library.__wrapped__()
    assert made == expected.replace("</script", "<\\/script")
