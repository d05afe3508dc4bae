"""Every file of a dataset, damaged in every way, is named or repaired; there is always a cure."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from support.cli import Ended, bulkembed, read, run, snapshot, write_rows

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.pipeline.report.facts import read_facts
from bulkembed.schemas.errors import BulkEmbedError
from bulkembed.transforms.dataset import output_lock
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.output_lock import LockOwner
from bulkembed.transforms.dataset.processes import this_process

pytestmark = pytest.mark.faults

ROWS, UNIT_ROWS = 30, 10
KINDS = {
    "run.json": "_run/run.json",
    "its copy": "_run/run.copy.json",
    "plan": "_run/plan/files.jsonl",
    "record": "_run/units/*.json",
    "account": "_run/account.json",
    "what shared texts cost": "_run/shared/*.json",
    "summary": "_run/summaries/*.json",
    "timeline": "_run/timeline/*.json",
    "stop note": "_run/stops/*.json",
    "lock": "_run/lock.json",
    "claim": "_run/claims/*.json",
    "spill": "_run/spill/*.spill",
    "_SUCCESS": "_SUCCESS",
    "vectors": "vectors/*.parquet",
    "dead letters": "dead_letters/*.parquet",
}
PAID_AGAIN = {"vectors": UNIT_ROWS, "dead letters": UNIT_ROWS}
"""How many texts are paid for again at most, by the kind of the damaged file; else none."""
FOLDERS = ("_run/units", "_run/plan", "_run/summaries", "_run/shared", "_run/claims", "_run/stops",
           "_run/timeline", "_run/spill", "_run", "vectors", "dead_letters")  # fmt: skip


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "x").write_bytes(b"x")


def with_odd_values(path: Path) -> None:
    """Replace values in JSON by values of other types."""
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        content = None
    odd = itertools.cycle([None, -1, "x", [], {"x": 1}, True])
    names = content if isinstance(content, dict) else {"x": 0}
    path.write_text(json.dumps({name: next(odd) for name in names}))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"\x00\xff{]garbage\n" * 9),
    "cut": cut_in_half,
    "another type": lambda path: path.write_bytes(b"[1, 2]\n"),
    "odd values": with_odd_values,
    "a folder": make_a_folder,
    "missing": Path.unlink,
}


@dataclasses.dataclass(frozen=True)
class Whole:
    """A complete dataset with a file of every kind; tests change only copies of it."""

    folder: Path
    server: EmulatorServer

    def texts(self) -> int:
        return int(self.server.stats()["texts"])

    def run(self, place: Path, *args: object) -> Ended:
        return run(
            self.server.url, place / "in", place / "out", "--dim", 128, "--unit-rows", UNIT_ROWS,
            "--keep-columns", "lang", "--price-usd-per-mtok", 1, *args,
        )  # fmt: skip

    def copy(self, place: Path) -> Path:
        return Path(shutil.copytree(self.folder, place))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp("whole")
    # Some texts are in several units, so that something is shared.
    texts = [f"text {n % 24} about {['cats', 'banks', 'rain'][n % 3]}" for n in range(ROWS)]
    texts[3], texts[4], texts[15] = "poison", "", "poison"
    write_rows(folder / "in/a.parquet", texts, lang=["en"] * ROWS)
    with EmulatorServer(EmulatorSettings(poison="poison")) as server:
        made = Whole(folder, server)
        ended = made.run(folder)
        assert ended.code == 0, ended.err
        dataset = Dataset.open(str(folder / "out"))
        # What a killed run leaves: its lock, its claim, a note and kept answers.
        dead = LockOwner("run-0", "local", process=dataclasses.replace(this_process(), started=1))
        dataset.write("_run/lock.json", dead.to_json())
        dataset.write("_run/claims/run-0.json", dead.to_json())
        dataset.write_json(
            "_run/stops/run-0-signal.json", {"reason": "signal", "message": "x", "at": 1.0}
        )
        dataset.write(f"_run/spill/{'a' * 16}-{0:012}-{5:08}-g0-run-0.spill", b"BES1" + bytes(99))
        for pattern in KINDS.values():
            assert list((folder / "out").glob(pattern)), f"there is no {pattern}"
        yield made


def rows_of(output: Path) -> tuple[pa.Table, list[tuple[object, ...]]]:
    letters = read(output, "dead_letters").select(["id", "source_row", "code"])
    return read(output), [tuple(row.values()) for row in letters.to_pylist()]


def named(ended: Ended) -> None:
    """Check that a failed command says why, and what to do."""
    assert "Traceback" not in ended.err + ended.out
    if ended.code:
        assert ended.code in (1, 2), ended.err
        assert any(cure in ended.err + ended.out for cure in CURES), ended.err + ended.out


CURES = (
    "verify --repair", "--overwrite", "another --output",
    "Rerun the same command",
)  # fmt: skip


def look(whole: Whole, output: Path) -> None:
    """Check that the commands that only read change nothing."""
    before = snapshot(output)
    named(bulkembed("status", output))
    named(bulkembed("verify", output))
    named(bulkembed("search", output, "cats", "--base-url", whole.server.url))
    try:
        read_facts(str(output))
    except BulkEmbedError as error:
        message = error.message
        assert any(cure in message for cure in CURES), message
    estimate = ("estimate", "--input", output.parent / "in", "--output", output, "--dim", 128)
    named(bulkembed(*estimate, "--keep-columns", "lang", "--base-url", whole.server.url))
    assert snapshot(output) == before


def comes_right(whole: Whole, place: Path, most_paid: int) -> None:
    """Check that a run, or a repair and a run, restore the dataset at no higher cost."""
    rows, letters = rows_of(whole.folder / "out")
    output, before = place / "out", whole.texts()
    first = whole.run(place)
    named(first)
    if first.code or bulkembed("verify", output, "--against", place / "in").code:
        repaired = bulkembed("verify", "--repair", output)
        assert repaired.code == 0, repaired.err
        ended = whole.run(place)
        assert ended.code == 0, repaired.out + ended.err
    shown = bulkembed("verify", output, "--against", place / "in")
    assert shown.code == 0, shown.out + shown.err
    now, now_letters = rows_of(output)
    assert now.equals(rows)
    assert now_letters == letters
    assert (output / "_SUCCESS").is_file()
    assert whole.texts() - before <= most_paid


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_named_or_repaired(
    whole: Whole, tmp_path: Path, kind: str, damage: str
) -> None:
    place = whole.copy(tmp_path / "x")
    path = next((place / "out").glob(KINDS[kind]))
    DAMAGES[damage](path)
    if kind == "claim" and path.exists():
        # One that cannot be read may be about to be written; it is believed for five minutes.
        os.utime(path, (0, 0))
    look(whole, place / "out")
    if damage == "garbage":  # Once is enough: it sends calls.
        named(whole.run(place, "--retry-failed"))
    comes_right(whole, place, PAID_AGAIN.get(kind, 0))


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_file_in_place_of_a_folder_is_named_or_repaired(
    whole: Whole, tmp_path: Path, folder: str
) -> None:
    place = whole.copy(tmp_path / "x")
    path = place / "out" / folder
    shutil.rmtree(path)
    path.write_bytes(b"x")
    if folder == "_run":
        # All is lost that says what the parts are.
        ended = whole.run(place)
        assert ended.code == 2
        assert "run.json, which has their settings, is missing" in ended.last
        repaired = bulkembed("verify", "--repair", place / "out")
        assert repaired.code == 2
        assert "--overwrite" in repaired.last
        return
    look(whole, place / "out")
    comes_right(whole, place, ROWS if folder in ("vectors", "dead_letters") else 0)


def test_missing_records_are_rebuilt_from_their_parts(whole: Whole, tmp_path: Path) -> None:
    place = whole.copy(tmp_path / "x")
    shutil.rmtree(place / "out/_run/units")
    before = [snapshot(place / "out" / folder) for folder in ("vectors", "dead_letters")]
    ended = whole.run(place)
    assert ended.code == 1
    assert "the commit records of 30 rows are missing" in ended.last
    assert before == [snapshot(place / "out" / folder) for folder in ("vectors", "dead_letters")]
    comes_right(whole, place, 0)


def test_the_record_of_retried_dead_letters_is_rebuilt(whole: Whole, tmp_path: Path) -> None:
    place = whole.copy(tmp_path / "x")
    with EmulatorServer() as server:
        retried = Whole(place, server)
        assert retried.run(place, "--retry-failed").code == 0
        rows, paid = read(place / "out"), retried.texts()
        shutil.rmtree(place / "out/_run/units")
        assert bulkembed("verify", "--repair", place / "out").code == 0
        assert retried.run(place).code == 0
        assert retried.texts() == paid
    assert bulkembed("verify", place / "out", "--against", place / "in").code == 0
    assert read(place / "out").equals(rows)


def test_a_record_that_names_another_file_deletes_nothing(whole: Whole, tmp_path: Path) -> None:
    place = whole.copy(tmp_path / "x")
    precious = place / "out/precious.parquet"
    precious.write_bytes(b"not ours")
    record = next((place / "out/_run/units").iterdir())
    content = json.loads(record.read_bytes())
    content["vector_parts"] = ["../precious.parquet"]
    record.write_text(json.dumps(content))
    for args in (("--retry-failed",), ("--prune",), ()):
        write_rows(place / "in/a.parquet", ["other"], lang=["en"])
        named(whole.run(place, *args))
        assert precious.read_bytes() == b"not ours"
    assert bulkembed("verify", "--repair", place / "out").code == 0
    assert precious.read_bytes() == b"not ours"


def test_a_repair_does_not_change_an_undamaged_dataset(whole: Whole, tmp_path: Path) -> None:
    place = whole.copy(tmp_path / "x")
    assert whole.run(place).code == 0
    before = snapshot(place / "out")
    shown = bulkembed("verify", "--repair", place / "out")
    assert shown.code == 0
    assert "nothing: no damage was found" in shown.out
    assert snapshot(place / "out") == before


def test_a_dataset_is_not_repaired_while_a_run_writes_it(whole: Whole, tmp_path: Path) -> None:
    place = whole.copy(tmp_path / "x")
    with output_lock.acquire(Dataset.open(str(place / "out")), LockOwner("run-1", "local")):
        shown = bulkembed("verify", "--repair", place / "out")
    assert shown.code == 5
    assert "run run-1" in shown.last


NOBODY = 65534


@pytest.fixture
def public() -> Iterator[Path]:
    """Return a folder that a user without permissions can reach."""
    if os.geteuid() != 0:
        pytest.skip("root becomes another user here; others have tests of their own rights")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_without_permission_is_named(
    whole: Whole, public: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(public / "cache"))
    place = whole.copy(public / "x")
    for path in (place, *place.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    path = next((place / "out").glob(KINDS[kind]))
    os.chown(path, 0, 0)
    path.chmod(0o600)
    before = whole.texts()
    os.seteuid(NOBODY)
    try:
        commands = [
            bulkembed("status", place / "out"),
            bulkembed("verify", place / "out"),
            bulkembed("search", place / "out", "cats", "--base-url", whole.server.url),
            whole.run(place),
            bulkembed("verify", "--repair", place / "out"),
        ]
    finally:
        os.seteuid(0)
    for ended in commands:
        assert "Traceback" not in ended.err
        assert ended.code in (0, 1, 2, 5)
        assert ended.code == 0 or "no permission" in ended.err + ended.out or ended.code == 5
    assert whole.texts() - before <= 1  # The query.
