"""An estimate is what the run then does: counts exactly, tokens within bounds."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.cli import bulkembed, python, run, snapshot, summary, write_rows

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

SHAPE = ("--dim", 128, "--unit-rows", 40)
PROSE = (
    "On Monday the committee published its annual report about renewable energy, and several "
    "members asked whether the numbers for solar power had been measured or only estimated."
)


def text_of(number: int) -> str:
    words = PROSE.split()
    chosen = (words[(number * 7 + at * at) % len(words)] for at in range(3 + number % 40))
    return f"{number}: {' '.join(chosen)}"


TEXTS = [text_of(n % 90 if n % 4 else n) for n in range(300)]
MORE = [None, " ", *[text_of(n) for n in range(250, 330)], text_of(329)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Rows with duplicates within units and across units, blank rows, and invalid rows."""
    write_rows(tmp_path / "in/a.parquet", TEXTS)
    rows = [{"id": n, "text": text} for n, text in enumerate(MORE)]
    lines = [json.dumps(row) for row in [*rows, {"text": "no id"}, {"id": 9, "text": 8}]]
    (tmp_path / "in/b.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return tmp_path / "in"


def estimated(source: Path, *args: object) -> dict[str, Any]:
    found = bulkembed("estimate", "--input", source, "--json", *SHAPE, *args)
    assert found.code == 0, found.err
    estimate: dict[str, Any] = json.loads(found.out)
    return estimate


def values(estimate: dict[str, Any], *names: str) -> tuple[int, ...]:
    assert all(estimate[name]["off"] == 0 for name in names)
    return tuple(estimate[name]["value"] for name in names)


def check_against_the_run(
    estimate: dict[str, Any], server: EmulatorServer, output: Path, tokens: float
) -> None:
    """Fails unless the last run, the first of its server, did what was estimated."""
    run_rows, counts, stats = summary(output)["run"], summary(output)["counts"], server.stats()
    assert estimate["rows"]["due"] == run_rows["rows_in"]
    assert values(estimate, "blank", "unfit") == (run_rows["skipped"], run_rows["dead"])
    assert values(estimate, "texts", "repeated") == (stats["texts"], counts["repeated"])
    check_calls(estimate, stats["calls"])
    assert estimate["tokens"]["value"] == pytest.approx(stats["tokens"], rel=tokens)


def check_calls(estimate: dict[str, Any], sent: int) -> None:
    """Fails unless a run has sent the estimated requests, or a few more.

    A unit that comes late on a busy machine shares no request with the one before.
    """
    (calls,) = values(estimate, "calls")
    assert calls <= sent <= 2 * calls


@pytest.mark.parametrize("dedupe", ["run", "unit", "off"])
def test_the_run_matches_the_estimate(
    server: EmulatorServer, source: Path, tmp_path: Path, dedupe: str
) -> None:
    args = ("--dedupe", dedupe)
    estimate = estimated(source, *args)
    assert run(server.url, source, tmp_path / "out", *SHAPE, *args).code == 0
    # One sentence in all orders: a corpus is nearer to what the prior weights are made for.
    check_against_the_run(estimate, server, tmp_path / "out", 0.2)
    assert estimate["codes"] == {"bad_text": 1, "missing_id": 1}


def test_a_real_corpus_costs_what_was_estimated(
    server: EmulatorServer, corpus: Path, tmp_path: Path
) -> None:
    shape = ("--dim", 128, "--unit-rows", 500)
    estimate = estimated(corpus, *shape, "--rpm", 500)
    assert run(server.url, corpus, tmp_path / "out", *shape).code == 0
    assert estimate["usd"] == pytest.approx(0.15e-6 * server.stats()["tokens"], rel=0.1)
    assert estimate["batch_usd"] == estimate["usd"] / 2
    minutes = -(-server.stats()["texts"] // 500) - 1
    assert estimate["limit_that_binds"] == "rpm"
    assert estimate["seconds_by_limit"] == {"rpm": 60.25 * minutes, "tpm": 0.0}
    # Tokens a minute bound the size of a call: without them, as in this run, some are larger.
    estimate["calls"] = estimated(corpus, *shape, "--tpm", 0)["calls"]
    check_against_the_run(estimate, server, tmp_path / "out", 0.1)


def test_committed_rows_are_not_counted_and_correct_the_token_counts(
    server: EmulatorServer, corpus: Path, tmp_path: Path
) -> None:
    shape = ("--dim", 128, "--unit-rows", 100)
    there = ("--output", tmp_path / "out", "--base-url", server.url)
    args = (*shape, "--limit-rows", 600)
    assert run(server.url, corpus, tmp_path / "out", *args).code == 0
    before = snapshot(tmp_path / "out")
    estimate = estimated(corpus, *shape, *there)
    assert snapshot(tmp_path / "out") == before
    assert estimate["learnt_units"] > 0
    assert estimate["rows"] == {"in": estimate["rows"]["in"], "left": estimate["rows"]["due"],
                            "due": estimate["rows"]["in"] - 600}  # fmt: skip
    paid = server.stats()
    assert run(server.url, corpus, tmp_path / "out", *shape).code == 0
    stats = server.stats()
    assert values(estimate, "texts") == (stats["texts"] - paid["texts"],)
    check_calls(estimate, stats["calls"] - paid["calls"])
    assert estimate["tokens"]["value"] == pytest.approx(stats["tokens"] - paid["tokens"], rel=0.05)


def test_answers_kept_from_an_interrupted_run_are_not_counted(source: Path, tmp_path: Path) -> None:
    there = ("--output", tmp_path / "out")
    with EmulatorServer(EmulatorSettings()) as server:
        assert run(server.url, source, tmp_path / "out", *SHAPE, "--rpd", 30).code == 75
        paid = server.stats()["texts"]
        estimate = estimated(source, *there, "--base-url", server.url)
        assert values(estimate, "paid")[0] > 0
        assert run(server.url, source, tmp_path / "out", *SHAPE, "--rpd", 0).code == 0
        assert values(estimate, "texts") == (server.stats()["texts"] - paid,)
    fresh = estimated(source, *there, "--emulator", "--overwrite")
    assert values(fresh, "texts") == (len({text for text in [*TEXTS, *MORE[2:]]}),)


def test_a_retry_counts_its_rows_only(tmp_path: Path) -> None:
    texts = [*(f"poison {n}" for n in range(7)), None, *(f"text {n}" for n in range(90))]
    source = write_rows(tmp_path / "in/a.parquet", texts)
    with EmulatorServer(EmulatorSettings(poison="poison")) as bad:
        args = (*SHAPE, "--max-dead-letters", 10)
        assert run(bad.url, source, tmp_path / "out", *args).code == 0
        there = ("--output", tmp_path / "out", "--base-url", bad.url)
        estimate = estimated(source, *there, "--retry-failed")
    assert estimate["rows"]["due"] == 7
    assert values(estimate, "texts", "blank", "calls") == (7, 0, 1)


def test_long_texts_are_reported_and_counted_as_they_are_sent(
    server: EmulatorServer, tmp_path: Path
) -> None:
    texts = [*(f"text {n}" for n in range(50)), "a long word or two " * 900, "end"]
    source = write_rows(tmp_path / "in/a.parquet", texts)
    for policy, sent in (("truncate", 52), ("dead-letter", 51)):
        estimate = estimated(source, "--long-text", policy)
        assert values(estimate, "too_long", "texts") == (1, sent)
        assert (estimate["longest"][0]["file"], estimate["longest"][0]["row"]) == ("a.parquet", 50)
        args = ("--long-text", policy, "--max-dead-letters", 5)
        assert run(server.url, source, tmp_path / policy, *SHAPE, *args).code == 0
        assert summary(tmp_path / policy)["counts"]["texts"] == sent


def test_passages_are_counted_as_they_will_be_sent(tmp_path: Path) -> None:
    texts = [*(f"text {n}" for n in range(50)), *(f"{n} " + PROSE * 20 for n in (1, 2)), PROSE * 20]
    source = write_rows(tmp_path / "in/a.parquet", texts)
    with EmulatorServer() as server:
        estimate = estimated(source, "--long-text", "passages")
        assert values(estimate, "too_long") == (3,)
        assert estimate["longest"][0]["characters"] == len(PROSE) * 20 + 2
        args = ("--long-text", "passages")
        assert run(server.url, source, tmp_path / "out", *SHAPE, *args).code == 0
        check_against_the_run(estimate, server, tmp_path / "out", tokens=0.25)


def test_a_sample_has_error_bounds(source: Path, tmp_path: Path) -> None:
    texts = [text_of(n) for n in range(4000)]
    source = write_rows(tmp_path / "big/a.parquet", texts)
    whole = estimated(source)
    sample = estimated(source, "--sample", "25%")
    assert sample["sample"] == {"units": 25, "of": 100, "rows": 1000}
    assert 0 < sample["tokens"]["off"] < 0.2 * sample["tokens"]["value"]
    for name in ("tokens", "texts", "calls"):
        assert abs(sample[name]["value"] - whole[name]["value"]) <= sample[name]["off"]
    found = bulkembed("estimate", "--input", source, *SHAPE, "--sample", 100)
    assert re.search("^sample +400 rows in 10 of 100 units. ± is", found.out, re.MULTILINE)


def test_an_estimate_needs_no_key_no_beam_and_no_client(source: Path) -> None:
    code = (
        "import sys; from bulkembed.pipeline.cli.main import cli\n"
        f"cli.main(['estimate', '--input', {str(source)!r}], standalone_mode=False)\n"
        "print([name for name in ('apache_beam', 'google.genai') if name in sys.modules])"
    )
    found = python("-c", code)
    assert found.code == 0, found.err
    assert found.out.splitlines()[-1] == "[]"
    assert "cost" in found.out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--sample", "0"), "invalid --sample '0'. Use a number of rows, or a percentage"),
        (("--sample", "101%"), "invalid --sample '101%'"),
        (("--text-column", "none"), "none"),
        (("--blank-text", "stop"), "the text is null"),
    ],
)
def test_an_estimate_rejects_what_the_run_would_reject(
    source: Path, args: tuple[str, ...], words: str
) -> None:
    found = bulkembed("estimate", "--input", source, *args)
    assert found.code in (1, 2)
    assert words in found.last
    assert "Traceback" not in found.err


def test_other_settings_than_the_datasets_are_rejected(
    server: EmulatorServer, source: Path, tmp_path: Path
) -> None:
    assert run(server.url, source, tmp_path / "out", *SHAPE).code == 0
    args = ("--output", tmp_path / "out", "--base-url", server.url, "--dim", 256)
    found = bulkembed("estimate", "--input", source, *args)
    assert found.code == 2
    assert "dim is 128 in the dataset and 256 in this run" in found.last


def test_the_price_of_another_service_must_be_given(source: Path) -> None:
    where = ("--input", source, "--base-url", "http://127.0.0.1:9")
    assert "Give it with --price-usd-per-mtok." in bulkembed("estimate", *where).out
    estimate = estimated(source, *where[2:], "--price-usd-per-mtok", 20)
    assert estimate["usd"] == pytest.approx(20e-6 * estimate["tokens"]["value"])
    assert estimate["batch_usd"] == estimate["usd"] / 2


def test_a_changed_export_costs_its_new_texts_and_reuses_the_others(tmp_path: Path) -> None:
    source, output = tmp_path / "in/a.parquet", tmp_path / "out"
    texts = [f"product {n} has a description of its own" for n in range(1200)]
    write_rows(source, texts)
    with EmulatorServer() as server:
        assert run(server.url, source, output, *SHAPE).code == 0
        sent = server.stats()["texts"]
        new = [f"{text}, now improved" if n % 40 == 0 else text for n, text in enumerate(texts)]
        write_rows(source, new[::-1])
        where = ("--output", output, "--base-url", server.url)
        found = estimated(source, *where)
        assert values(found, "texts", "reused", "repeated") == (30, 1170, 1170)
        sampled = estimated(source, *where, "--sample", "400")
        assert sampled["sample"]["units"] < sampled["sample"]["of"]
        assert sampled["texts"]["value"] == pytest.approx(30, abs=10)
        shown = bulkembed("estimate", "--input", source, *where, *SHAPE).out
        assert "30 to send, 1,170 reused from earlier runs, 0 duplicate" in shown
        assert run(server.url, source, output, *SHAPE).code == 0
        assert server.stats()["texts"] == sent + 30
        assert values(estimated(source, *where), "texts", "reused") == (0, 0)
