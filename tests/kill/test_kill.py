"""Killed at any moment and started again, a job ends as if nothing had happened."""

from __future__ import annotations

import random
import re
import secrets
import signal
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import Ended, read, run, write_rows
from support.killing import FIRST_STEPS, LAST_STEPS, Job, Step, leftovers, same_rows

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.pipeline.demo.corpus import write_corpus

CALL_TEXTS = 100
SHUTDOWN_TIMEOUT_S = 5


@pytest.fixture
def chance() -> random.Random:
    seed = secrets.randbelow(10**9)
    print(f"seed {seed}")
    return random.Random(seed)


def killed_at_random(job: Job, chance: random.Random, most_s: float) -> None:
    ended, _ = job.signalled(signal.SIGKILL, chance, most_s)
    assert ended.code == -signal.SIGKILL, ended.err


def killed_at(job: Job, step: Step) -> None:
    ended = job.finish(step)
    assert ended.code == -signal.SIGKILL, f"{step}: {ended.code} {ended.err}"


def check(
    job: Job, ended: Ended, undisturbed: Path, distinct: int, kills: int, in_flight: int
) -> None:
    assert ended.code == 0, ended.err
    assert leftovers(job.output) == []
    assert (job.output / "_SUCCESS").exists()
    same_rows(job.output, undisturbed)
    paid = job.server.stats()["texts"]
    print(f"{kills} kills; {distinct:,} texts, {paid - distinct:,} of them paid twice")
    assert paid <= distinct + kills * in_flight * CALL_TEXTS


@pytest.mark.faults
def test_six_kills_lose_nothing(tmp_path: Path, chance: random.Random) -> None:
    texts = [f"text {n}" + (" poison" if n % 97 == 5 else "") for n in range(700)]
    texts[40] = ""
    source = write_rows(tmp_path / "a.parquet", texts)
    args = ("--dim", "128", "--unit-rows", "100", "--concurrency", "2")
    settings = EmulatorSettings(poison="poison", latency_ms=60)
    with EmulatorServer(settings) as server:
        assert run(server.url, source, tmp_path / "whole", *args).code == 0
    with EmulatorServer(settings) as server:
        job = Job(server, source, tmp_path / "out", args)
        steps = [*chance.sample(FIRST_STEPS[2:], 3), chance.choice(LAST_STEPS)]
        for step in steps[:-1]:
            killed_at(job, step)
        for _ in range(2):
            killed_at_random(job, chance, 0.1)
        killed_at(job, steps[-1])
        ended = run(server.url, source, job.output, *args)
        check(job, ended, tmp_path / "whole", len(read(job.output)), 6, 2)


class Corpus:
    """The library's docstrings, and an undisturbed run over them; each text is made unique."""

    def __init__(self, folder: Path) -> None:
        self.source = folder / "corpus"
        self.rows = write_corpus(self.source)
        self.poison = a_word_of_some_rows(self.source / "docstrings-00000.parquet")
        self.whole = folder / "whole"
        self.args = (
            "--text-template", "{id}: {text}", "--dim", "256", "--unit-rows", "250",
            "--concurrency", "3", "--shutdown-timeout", f"{SHUTDOWN_TIMEOUT_S}s",
        )  # fmt: skip
        with self.server() as server:
            ended = Job(server, self.source, self.whole, self.args).finish()
            assert ended.code == 0, ended.err
            assert server.stats()["texts_paid_twice"] == 0
        self.distinct = len(read(self.whole))

    def server(self) -> EmulatorServer:
        return EmulatorServer(EmulatorSettings(poison=self.poison, latency_ms=350, jitter_ms=100))

    def job(self, server: EmulatorServer, output: Path) -> Job:
        return Job(server, self.source, output, self.args)


def a_word_of_some_rows(shard: Path) -> str:
    table: pa.Table = pq.read_table(shard, columns=["text"])
    counts = Counter(
        word for text in table["text"].to_pylist() for word in set(re.findall(r"[a-z]{12,}", text))
    )
    return min(counts, key=lambda word: (abs(counts[word] - 15), word))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(tmp_path_factory.mktemp("corpus"))


@pytest.mark.kill
@pytest.mark.timeout(600)
def test_thirty_kills_over_the_docstrings_lose_nothing(
    corpus: Corpus, tmp_path: Path, chance: random.Random
) -> None:
    with corpus.server() as server:
        job = corpus.job(server, tmp_path / "out")
        kills: list[Step | None] = [*FIRST_STEPS[2:], *[None] * 20]
        chance.shuffle(kills)
        for step in (*FIRST_STEPS[:2], *kills, *LAST_STEPS):
            print(step or "at random", flush=True)
            if step is None:
                killed_at_random(job, chance, 0.5)
            else:
                killed_at(job, step)
        check(job, job.finish(), corpus.whole, corpus.distinct, len(kills) + 5, 3)


@pytest.mark.kill
@pytest.mark.timeout(600)
def test_twenty_five_sigterms_over_the_docstrings_pay_for_nothing_twice(
    corpus: Corpus, tmp_path: Path, chance: random.Random
) -> None:
    with corpus.server() as server:
        job = corpus.job(server, tmp_path / "out")
        for _ in range(25):
            ended, took_s = job.signalled(signal.SIGTERM, chance, 0.3)
            print(f"ended with {ended.code} within {took_s:.2f} s", flush=True)
            assert ended.code == 75, ended.err
            assert took_s <= SHUTDOWN_TIMEOUT_S + 2
            assert "Traceback" not in ended.err
            assert len(ended.err.strip().splitlines()) == 1
        check(job, job.finish(), corpus.whole, corpus.distinct, 25, 0)
