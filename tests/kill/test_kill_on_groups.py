"""A run that is killed while it removes rows of a compacted dataset is resumed by the next one."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from chaos.processes import Event, Starter
from support.cli import bulkembed, parts, read, run, write_rows
from support.killing import leftovers

from bulkembed.emulator.server import EmulatorServer

pytestmark = [pytest.mark.kill, pytest.mark.timeout(200)]

FILES, ROWS = 4, 5
ARGS = ("--dim", "128", "--unit-rows", "4", "--no-report")
Rows = dict[str, tuple[bytes, bytes]]
"""The hash of the text and the vector of each id."""

REMOVAL: tuple[Event, ...] = (
    ("os.rename", "/vectors/group-", 1),
    ("os.rename", "/_run/units/group-", 1),
    ("os.remove", "/_run/units/group-", 1),
    ("os.rename", "/_run/manifest.json", 1),
    ("os.remove", "/vectors/group-", 1),
    ("os.rename", "/_SUCCESS", 1),
)
"""From the copy of the merged file without the rows to the end of the run."""
OVERWRITE: tuple[Event, ...] = (
    ("os.remove", "/_run/units/group-", 1),
    ("os.remove", "/vectors/group-", 1),
    ("os.rename", "/_run/units/", 1),
)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A way in which rows of a compacted dataset go."""

    change: Callable[[Path], None]
    """What happens to the input."""
    flags: tuple[str, ...]
    steps: tuple[Event, ...]
    first: tuple[str, ...] = ()
    """The flags of each run, also of the first one."""


def write(folder: Path, file: int, word: str = "text") -> None:
    texts = [f"{word} {row} of file {file}" for row in range(ROWS)]
    write_rows(folder / f"f{file}.parquet", texts, id=[f"{file}-{row}" for row in range(ROWS)])


def change_a_file(folder: Path) -> None:
    write(folder, 1, "new text")


def delete_a_file(folder: Path) -> None:
    (folder / "f2.parquet").unlink()


def change_and_delete(folder: Path) -> None:
    change_a_file(folder)
    delete_a_file(folder)


KINDS = {
    "changed": Kind(change_a_file, (), REMOVAL),
    "prune": Kind(delete_a_file, ("--prune", "--max-delete", "50%"), REMOVAL),
    "sync": Kind(change_and_delete, ("--max-delete", "50%"), REMOVAL, ("--sync",)),
    "overwrite": Kind(change_and_delete, ("--overwrite",), OVERWRITE),
}


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    with Starter({}) as starter:
        yield starter


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def compacted(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`in` with four files, and `out` with one merged file."""
    place = tmp_path_factory.mktemp("groups")
    for file in range(FILES):
        write(place / "in", file)
    with EmulatorServer() as server:
        assert run(server.url, place / "in", place / "out", *ARGS, *kind.first).code == 0
    assert bulkembed("compact", place / "out").code == 0
    assert len(parts(place / "out", "vectors")) == 1
    return place


def rows_in(paths: list[Path]) -> Rows:
    """Return the rows of parts; each must be there once."""
    found: Rows = {}
    for path in paths:
        for row in pq.read_table(path).to_pylist():
            assert row["id"] not in found
            found[row["id"]] = (row["text_hash"], bytes(str(row["vector"]), "ascii"))
    return found


def listed(output: Path) -> Rows:
    ended = bulkembed("parts", output, "--json")
    assert ended.code == 0, ended.err
    return rows_in([Path(part["path"]) for part in json.loads(ended.out)["parts"]])


def test_each_moment_of_the_removal_can_be_the_last(
    kind: Kind, compacted: Path, starter: Starter, tmp_path: Path
) -> None:
    flags = (*kind.first, *kind.flags)
    old = listed(compacted / "out")
    shutil.copytree(compacted / "in", tmp_path / "new/in")
    kind.change(tmp_path / "new/in")
    with EmulatorServer() as server:
        whole = run(server.url, tmp_path / "new/in", tmp_path / "new/out", *ARGS, *kind.first)
        assert whole.code == 0, whole.err
    new = listed(tmp_path / "new/out")
    for number, step in enumerate(kind.steps):
        place = tmp_path / str(number)
        shutil.copytree(compacted, place)
        kind.change(place / "in")
        with EmulatorServer() as server:
            words = (
                "run", "--input", place / "in", "--output", place / "out",
                "--base-url", server.url, *ARGS, *flags,
            )  # fmt: skip
            killed = starter.finish(words, place / "killed", event=step)
            assert killed.code == -signal.SIGKILL, f"{step}: {killed.code} {killed.said}"
            if "--overwrite" not in flags:
                assert listed(place / "out") in (old, new), step
                paid = server.stats()["texts"]
            ended = starter.finish(words, place / "finished")
            assert ended.code == 0, f"{step}: {ended.said}"
            if "--overwrite" not in flags:
                assert server.stats()["texts"] == paid, step
        assert listed(place / "out") == new, step
        assert rows_in(parts(place / "out", "vectors")) == new, step
        assert len(read(place / "out")) == len(new), step
        assert leftovers(place / "out") == [], step
        verified = bulkembed("verify", place / "out", "--against", place / "in")
        assert verified.code == 0, f"{step}: {verified.out}"
