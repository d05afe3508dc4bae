"""Settings are pinned from the first answer on, whatever files a run leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli import Ended, matrix, read, run, snapshot, write_rows
from support.killing import Job, Step, leftovers

from bulkembed.emulator.server import EmulatorServer

pytestmark = pytest.mark.faults

SHARED = 12
"""Texts that several units have."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write a file of four units that share all their texts."""
    return write_rows(tmp_path / "in/a.parquet", [f"text {n % SHARED}" for n in range(4 * SHARED)])


def go(server: EmulatorServer, source: Path, output: Path, *args: object) -> Ended:
    return run(server.url, source, output, "--dim", 128, "--unit-rows", SHARED, *args)


def stopped(server: EmulatorServer, source: Path, output: Path) -> None:
    """Start a first run that stops during the shared texts, at the end of the day's quota."""
    assert go(server, source, output, "--rpd", 5).code == 75
    assert list((output / "_run/shared").glob("*.spill"))
    assert not list((output / "_run/units").glob("*"))
    assert not list((output / "_run/spill").glob("*"))


OTHER = [
    pytest.param(("--model", "gemini-embedding-2"), "model is", id="model"),
    pytest.param(("--task-type", "CLUSTERING"), "task_type is", id="task-type"),
    pytest.param(("--dim", 256), "dim is 128 in the dataset and 256 in this run", id="dim"),
    pytest.param(("--no-normalize",), "normalize is", id="normalize"),
    pytest.param(("--vector-type", "float16"), "vector_type is", id="layout"),
]


@pytest.mark.parametrize(("args", "words"), OTHER)
def test_other_settings_are_rejected_if_a_first_run_left_only_shared_answers(
    server: EmulatorServer, source: Path, output: Path, args: tuple[object, ...], words: str
) -> None:
    stopped(server, source, output)
    before, calls = snapshot(output), server.stats()["calls"]
    ended = go(server, source, output, *args)
    assert ended.code == 2, ended.err
    assert words in ended.last
    assert "Traceback" not in ended.err
    assert snapshot(output) == before
    assert server.stats()["calls"] == calls


def test_a_run_with_a_key_does_not_resume_an_emulator_run_and_vice_versa(
    server: EmulatorServer, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "k")
    emulated, real = tmp_path / "emulated", tmp_path / "real"
    args = ("--dim", 128, "--unit-rows", SHARED)
    assert run(None, source, emulated, *args, "--rpd", 5, "--quota-name", "a").code == 75
    stopped(server, source, real)
    for url, output in ((server.url, emulated), (None, real)):
        before = snapshot(output)
        ended = run(url, source, output, *args)
        assert ended.code == 2, ended.err
        assert "service is" in ended.last
        assert snapshot(output) == before


def test_settings_are_pinned_once_something_is_paid_even_if_no_answer_is_kept(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    stopped(server, source, output)
    for path in (output / "_run/shared").iterdir():
        path.unlink()
    ended = go(server, source, output, "--dim", 256)
    assert ended.code == 2
    assert "paid" in ended.last


@pytest.mark.parametrize(
    "step",
    [Step("open", "-shared-0-"), Step("os.rename", "/_run/shared/")],
    ids=["before-the-first-answer-is-kept", "after"],
)
def test_other_settings_are_rejected_after_a_kill_during_shared_texts(
    server: EmulatorServer, source: Path, output: Path, step: Step
) -> None:
    args = ("--dim", "128", "--unit-rows", str(SHARED), "--concurrency", "1")
    assert Job(server, source, output, args).finish(step).code == -9
    other = go(server, source, output, "--dim", 256)
    assert other.code in (0, 2), other.err
    dim = 256 if other.code == 0 else 128
    assert go(server, source, output, "--dim", dim).code == 0
    assert matrix(read(output)).shape == (4 * SHARED, dim)
    assert leftovers(output) == []


def test_kept_answers_of_other_settings_are_deleted_when_a_run_takes_over(
    server: EmulatorServer, source: Path, output: Path, tmp_path: Path
) -> None:
    stopped(server, source, output)
    assert go(server, source, tmp_path / "other", "--dim", 256, "--rpd", 3, "--quota-name", "b")
    (stray,) = (tmp_path / "other/_run/shared").glob("*.spill")
    (output / "_run/shared" / stray.name).write_bytes(stray.read_bytes())
    assert go(server, source, output).code == 0
    assert matrix(read(output)).shape == (4 * SHARED, 128)
    assert not (output / "_run/shared" / stray.name).exists()
    texts = server.stats()["texts"]
    assert texts == SHARED + 3, "answers of other settings save nothing"


def test_settings_are_pinned_by_a_part_whose_record_is_missing(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    """On an object store a killed run may leave that, and neither kept answers nor an account."""
    assert go(server, source, output).code == 0
    for name in ("_SUCCESS", "_run/account.json"):
        (output / name).unlink(missing_ok=True)
    for folder in ("_run/units", "_run/shared", "_run/spill"):
        for path in (output / folder).glob("*"):
            path.unlink()
    before = snapshot(output)
    ended = go(server, source, output, "--task-type", "CLUSTERING")
    assert ended.code == 2, ended.err
    assert "task_type is" in ended.last
    assert snapshot(output) == before
    assert go(server, source, output).code == 0
