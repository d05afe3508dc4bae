"""Histories of an export end as a model in plain Python says, whatever happened in between."""

from __future__ import annotations

import collections
import dataclasses
import enum
import json
import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from chaos.processes import Command, Starter, end_all
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.cli import bulkembed, matrix, parts, read, run, write_rows

from bulkembed.emulator.server import EmulatorServer
from nights.catalogue import Night, Snapshot
from nights.histories import TEXTS, Deed, Export, deeds
from nights.jobs import FLAGS, Feed, Loaded, listed_changes, replayed
from nights.model import changes, embedded, new_contents
from nights.places import Disk

pytestmark = [pytest.mark.nights, pytest.mark.timeout(1500)]

RUN_S = 120.0
MOMENTS = (
    ("os.rename", "run.json"), ("os.rename", "files.jsonl"), ("open", "-part-"),
    ("os.rename", "/vectors/part-"), ("os.rename", "/_run/units/"), ("os.remove", "/vectors/part-"),
    ("os.remove", "/_run/units/"), ("os.rename", "/_run/summaries/"), ("os.rename", "_SUCCESS"),
    ("os.remove", "lock.json"), ("open", "/_run/staged/"), ("os.rename", "sync.json"),
    ("os.rename", "manifest.json"), ("os.rename", "/_run/changes/"), ("os.rename", "/group-"),
    ("os.remove", "/_run/staged/"), ("os.rename", "/vectors/kind="),
)  # fmt: skip
"""Steps of a run, each of which a kill may come just before."""
Kill = tuple[str, str, int]


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    with Starter({}) as starter:
        yield starter


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The vector of each text that a history may have."""
    folder = tmp_path_factory.mktemp("texts")
    source = write_rows(folder / "in.parquet", TEXTS)
    with EmulatorServer() as server:
        assert run(server.url, source, folder / "out", "--dim", 128).code == 0
    table = read(folder / "out")
    return dict(zip(TEXTS, map(bytes, (row.tobytes() for row in matrix(table))), strict=True))


@dataclasses.dataclass
class Player:
    """One history that is played in a folder."""

    folder: Path
    starter: Starter
    server: EmulatorServer
    vectors: dict[str, bytes]
    runs: int = 0

    @property
    def output(self) -> Path:
        return self.folder / "out"

    def run(self, *args: object, kill: Kill | None = None) -> Command:
        """Start the job, and wait for its end."""
        return self.command(
            "run", "--input", self.folder / "in", "--output", self.output, "--base-url",
            self.server.url, *FLAGS, "--unit-rows", 3, *args, kill=kill,
        )  # fmt: skip

    def command(self, *args: object, kill: Kill | None = None) -> Command:
        """Start a command, and wait for its end."""
        self.runs += 1
        command = self.starter.start(
            [*map(str, args)],
            self.folder / f"log-{self.runs}",
            {"GEMINI_API_KEY": "a-key"},
            event=kill,
        )
        try:
            assert command.wait(RUN_S) is not None, f"it hangs: {command.said}"
        finally:
            end_all(command)
        return command

    def done(self, *args: object) -> str:
        """Run the job, which must complete."""
        command = self.run(*args)
        assert command.code == 0, command.said
        return command.summary

    def rows(self) -> collections.Counter[tuple[str, str, bytes]]:
        """Return the rows of the dataset: ids, columns and vectors."""
        if not parts(self.output, "vectors"):
            return collections.Counter()
        table = read(self.output)
        if not len(table):
            return collections.Counter()
        rows = zip(table["id"].to_pylist(), table["kind"].to_pylist(), matrix(table), strict=True)
        return collections.Counter((one, kind, vector.tobytes()) for one, kind, vector in rows)

    def loaded(self, rows: Snapshot) -> Loaded:
        """Return what a loader must have that has loaded these rows."""
        found = embedded(rows)
        return {one: (self.vectors[row.text], (row.kind,)) for one, row in found.items()}

    def wanted(self, rows: Snapshot) -> collections.Counter[tuple[str, str, bytes]]:
        """Return the rows that the dataset must have."""
        return collections.Counter(
            (row.id, row.kind, self.vectors[row.text]) for row in embedded(rows).values()
        )


class Then(enum.StrEnum):
    """What else happens in a night."""

    NOTHING = "nothing"
    AGAIN = "a run with nothing to do"
    COMPACT = "a compaction"
    KILLED_COMPACTION = "a compaction that is killed"


NightlyRun = tuple[Sequence[Deed], Kill | None, Then]


def nightly_runs() -> st.SearchStrategy[list[NightlyRun]]:
    moments = st.tuples(st.sampled_from(MOMENTS), st.integers(1, 3))
    kills = st.one_of(st.none(), moments.map(lambda found: (*found[0], found[1])))
    nights = st.tuples(deeds(), kills, st.sampled_from(Then))
    return st.lists(nights, min_size=2, max_size=5)


def changes_since(output: Path, state: str) -> Feed:
    return listed_changes(("kind",), lambda *args: bulkembed("changes", output, *args), state)


def state_of(output: Path) -> str:
    ended = bulkembed("parts", output, "--json")
    assert ended.code == 0, ended.err
    return str(json.loads(ended.out)["run_id"])


def end_of_night(player: Player, then: Then, flags: Sequence[str], kill: Kill) -> None:
    """Do what else happens after the run of a night."""
    if then is Then.KILLED_COMPACTION:
        killed = player.command("compact", player.output, kill=kill)
        assert killed.code in (0, -signal.SIGKILL), killed.said
        player.done(*flags)
    elif then is Then.COMPACT:
        compacted = player.command("compact", player.output)
        assert compacted.code == 0, compacted.said
    elif then is Then.AGAIN:
        player.done(*flags)


KINDS = {
    "files": ("--prune", "--max-delete", "100%"),
    "catalogue": ("--sync", "--max-delete", "100%"),
}
KINDS |= {
    f"{kind} in partitions": (*flags, "--partition-by", "kind") for kind, flags in KINDS.items()
}


@pytest.mark.parametrize("kind", list(KINDS))
@settings(
    max_examples=int(os.environ.get("HISTORIES", 10)), suppress_health_check=list(HealthCheck)
)
@given(history=nightly_runs())
def test_a_history_ends_with_the_rows_of_the_last_export(
    kind: str, history: list[NightlyRun], starter: Starter, vectors: dict[str, bytes]
) -> None:
    flags = KINDS[kind]
    with tempfile.TemporaryDirectory() as name, EmulatorServer() as server:
        player = Player(Path(name), starter, server, vectors)
        place, export = Disk(player.folder), Export(8)
        before: Night = Night(0, {}, {})
        first, since_first, state = before, "", ""
        for number, (happened, kill, then) in enumerate(history, 1):
            for deed in happened:
                export.do(deed)
            night = export.night(number)
            if not night.rows:
                break  # Empty JSONL files have no columns, so the run would be refused.
            place.export(night)
            paid = int(server.stats()["texts"])
            if kill is not None:
                killed = player.run(*flags, kill=kill)
                assert killed.code in (0, -signal.SIGKILL), killed.said
            player.done(*flags)
            expected = new_contents(before.rows, night.rows)
            new = int(server.stats()["texts"]) - paid
            assert expected <= new <= (1 if kill is None else 2) * expected
            end_of_night(player, then, flags, kill or (*MOMENTS[number % len(MOMENTS)], 1))
            assert int(server.stats()["texts"]) == paid + new
            assert player.rows() == player.wanted(night.rows)
            if state:
                feed = changes_since(player.output, state)
                listed = {one: changed for one, (changed, _) in feed.items()}
                assert listed == changes(before.rows, night.rows, ("kind",))
                feed = changes_since(player.output, since_first)
                assert replayed(player.loaded(first.rows), feed) == player.loaded(night.rows)
            state = state_of(player.output)
            before = night
            if not since_first:
                first, since_first = night, state
