"""Nights of a mirrored catalogue with compactions in between, some of them killed."""

from __future__ import annotations

import io
import json
import signal
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from chaos.processes import Starter, end_all
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.cli import bulkembed, matrix, parts, read
from support.damage import findings
from support.killing import leftovers

from bulkembed.emulator.server import EmulatorServer
from nights.catalogue import Snapshot
from nights.histories import Deed, Export, deeds
from nights.jobs import FLAGS
from nights.model import changes, embedded
from nights.places import Disk

pytestmark = [pytest.mark.nights, pytest.mark.timeout(1500)]

RUN_S = 120.0
SYNC = ("--sync", "--max-delete", "100%", "--unit-rows", "3", "--no-report")
MOMENTS = (
    ("os.rename", "run.json"), ("open", "-group-"), ("os.rename", "/vectors/group-"),
    ("os.rename", "/_run/units/group-"), ("os.rename", "manifest.json"), ("os.rename", "_SUCCESS"),
    ("os.rename", "/vectors/kind="),
)  # fmt: skip
Kill = tuple[str, str, int]
CompactedNight = tuple[Sequence[Deed], Kill | None, Kill | None]
"""What happened to the export, where the run is killed, and where the compaction."""


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    with Starter({}) as starter:
        yield starter


def compacted_nights() -> st.SearchStrategy[list[CompactedNight]]:
    kills = st.one_of(
        st.none(), st.sampled_from(MOMENTS).map(lambda moment: (*moment, 1))
    )  # fmt: skip
    return st.lists(st.tuples(deeds(), kills, kills), min_size=2, max_size=4)


@settings(max_examples=8, suppress_health_check=list(HealthCheck))
@given(history=compacted_nights(), partitions=st.sampled_from([(), ("--partition-by", "kind")]))
def test_compactions_change_no_row_and_no_change(
    history: list[CompactedNight], partitions: tuple[str, ...], starter: Starter
) -> None:
    with tempfile.TemporaryDirectory() as name, EmulatorServer() as server:
        folder = Path(name)
        place, export = Disk(folder), Export(12)
        first: Snapshot = {}
        since, texts = "", dict[str, bytes]()
        for number, (happened, kill_run, kill_compaction) in enumerate(
            [([], None, None), *history]
        ):
            for deed in happened:
                export.do(deed)
            night = export.night(number)
            if not night.rows:
                continue  # An empty input is refused.
            place.export(night)
            run = ("run", "--input", folder / "in", "--output", folder / "out", "--base-url",
                   server.url, *FLAGS, *SYNC, *partitions)  # fmt: skip
            if kill_run is not None:
                ended_at(starter, folder, number, run, kill_run)
            done = bulkembed(*run)
            assert done.code == 0, done.err
            check(folder, night.rows, texts)
            if kill_compaction is not None:
                ended_at(starter, folder, 10 + number, ("compact", folder / "out"), kill_compaction)
            if number % 2:  # Else the next run finds what a killed compaction has left.
                done = bulkembed("compact", folder / "out")
                assert done.code == 0, done.err
                kinds = {row.kind for row in embedded(night.rows).values()}
                most = max(1, len(kinds)) if partitions else 1
                assert len(parts(folder / "out", "vectors")) <= most
                check(folder, night.rows, texts)
                assert leftovers(folder / "out") == []
                assert findings(folder, "--against", folder / "in") == []
            if not first:
                first = night.rows
                shown = bulkembed("parts", folder / "out", "--json").out
                since = str(json.loads(shown)["run_id"])
            assert shown_changes(folder, since) == {
                one: str(changed.change)
                for one, changed in changes(first, night.rows, ["kind"]).items()
            }


def ended_at(
    starter: Starter, folder: Path, number: int, args: Sequence[object], kill: Kill
) -> None:
    """Run a command that is killed at a moment, if it comes to that."""
    command = starter.start(
        [*map(str, args)], folder / f"log-{number}", {"GEMINI_API_KEY": "a-key"}, event=kill
    )
    try:
        assert command.wait(RUN_S) in (0, -signal.SIGKILL), command.said
    finally:
        end_all(command)


def check(folder: Path, rows: Snapshot, texts: dict[str, bytes]) -> None:
    """Fail unless the dataset has the rows, and one vector for each text."""
    wanted = embedded(rows)
    if not parts(folder / "out", "vectors"):
        assert not wanted
        return
    table = read(folder / "out")
    ids = table["id"].to_pylist()
    assert sorted(ids) == sorted(wanted)
    assert table["kind"].to_pylist() == [wanted[one].kind for one in ids]
    for one, vector in zip(ids, matrix(table), strict=True):
        assert texts.setdefault(wanted[one].text, vector.tobytes()) == vector.tobytes()


def shown_changes(folder: Path, since: str) -> dict[str, str]:
    """Return the changes since a run; each place must have the row."""
    shown = bulkembed(
        "changes", folder / "out", "--since", since, "--output", folder / "changes.parquet"
    )
    assert shown.code == 0, shown.err
    table = pq.read_table(io.BytesIO((folder / "changes.parquet").read_bytes()))
    for row in table.to_pylist():
        if row["change"] != "deleted":
            part = pq.read_table(folder / "out" / row["part"], partitioning=None)
            assert part["id"][row["row"]].as_py() == row["id"]
    return dict(zip(table["id"].to_pylist(), table["change"].to_pylist(), strict=True))
