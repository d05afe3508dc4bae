"""Each known vector has one place where it is read, and each row group is read by one worker."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.jobs import a_file, a_job

from bulkembed.pipeline.run import gather_plan
from bulkembed.pipeline.run.gather_plan import GatherPlan, plan_gather
from bulkembed.pipeline.run.plan import Plan, cluster_slices, local_slices
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.units import FileUnits, Unit
from bulkembed.transforms.core.ranges import split_ranges
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.known_places import (
    PLACE,
    KnownPlaces,
    PlaceSource,
    SourcePart,
    write_places,
)
from bulkembed.transforms.dataset.wanted_rows import WantedRows

JOB = a_job(
    embedding=EmbeddingConfig(service="developer", model="gemini-embedding-001", dim=256),
    run_id="now",
)
ROW_BYTES = 4 * 256 + 24
UNIT_ROWS = 3


def make_plan(files: list[int]) -> Plan:
    work = []
    for number, rows in enumerate(files):
        file = a_file(rows, f"{number}.parquet")
        units = [
            Unit(f"{number:016x}", first, count)
            for first, count in split_ranges([(0, rows)], UNIT_ROWS)
        ]
        work.append(FileUnits(file, tuple(units)))
    return Plan(tuple(work), sum(files), sum(files))


def lists_of(plan: GatherPlan, dataset: Dataset) -> dict[str, WantedRows]:
    names = [one.known for one in plan.slices if one.known is not None]
    names += [one.name for one in plan.gathers]
    return {name: WantedRows.read(dataset, "now", name) for name in names}


def content(lists: dict[str, WantedRows]) -> list[tuple[str, str, int, int]]:
    """Return the source, part, row and unit of all that is read."""
    return sorted(
        (wanted.parts[part].source, wanted.parts[part].name, row, unit)
        for wanted in lists.values()
        for unit, part, row in wanted.rows.tolist()
    )


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_all_places_are_read_once_whatever_their_order(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        waiting = data.draw(st.integers(0, 6), "rows that may wait") * ROW_BYTES
        patch.setattr(gather_plan, "MAX_WAITING_BYTES", waiting)
        patch.setattr(gather_plan, "MAX_LIST_ROWS", data.draw(st.integers(1, 9)))
        patch.setattr(gather_plan, "_BLOCK_PLACES", data.draw(st.integers(1, 20)))
        plan = make_plan(data.draw(st.lists(st.integers(1, 20), min_size=1, max_size=3)))
        groups = st.lists(st.integers(0, 4), min_size=1, max_size=3)
        sources = [
            PlaceSource(
                Dataset.open(f"{name}/source-{number}"),
                tuple(SourcePart(f"p{at}", 1, tuple(rows)) for at, rows in enumerate(parts)),
            )
            for number, parts in enumerate(
                data.draw(
                    st.lists(st.lists(groups, min_size=1, max_size=4), min_size=1, max_size=2)
                )
            )
        ]
        rows = [
            (source, part, row)
            for source, one in enumerate(sources)
            for part, rows in enumerate(one.parts)
            for row in range(rows.rows)
        ]
        if not rows:
            return
        pair = st.tuples(st.sampled_from(rows), st.integers(0, plan.units - 1))
        wanted = data.draw(st.lists(pair, unique=True, min_size=1, max_size=40))
        places = np.array([(0, unit, *row) for row, unit in wanted], PLACE)
        known = write_places(folder, sources, [places], len(places))
        workers = data.draw(st.integers(1, 3))
        cut = local_slices if data.draw(st.booleans()) else cluster_slices
        made = plan_gather(JOB, plan, list(cut(plan, workers)), known, workers)
        output = Dataset.open(f"{name}/out")
        made.write(output, JOB, folder)
        lists = lists_of(made, output)
        expected = sorted(
            (sources[source].dataset.uri, f"p{part}", row, unit)
            for (source, part, row), unit in wanted
        )
        assert content(lists) == expected
        assert made.rows == len(wanted)
        assert made.gathered_rows == sum(len(lists[one.name].rows) for one in made.gathers)
        read_by: dict[tuple[str, str, int], str] = {}
        for list_name, one in lists.items():
            for group in one.groups():
                place = (group.part.source, group.part.name, group.group)
                assert read_by.setdefault(place, list_name) == list_name
            _check_waiting(one, waiting if list_name.startswith("slice") else None)


def _check_waiting(wanted: WantedRows, waiting: int | None) -> None:
    """Check that no more rows wait than allowed, and that units are where the list says."""
    if waiting is None:
        return
    position = {unit.number: at for at, unit in enumerate(wanted.units)}
    spans = []
    for group in wanted.groups():
        found = [position[unit] for unit in group.units.tolist()]
        spans.append((min(found), max(found), len(found) * ROW_BYTES))
    for at in range(len(position)):
        assert sum(size for first, last, size in spans if first <= at <= last) <= waiting


def test_rows_in_the_order_of_the_source_are_read_in_place(tmp_path: Path) -> None:
    plan = make_plan([30])
    source = PlaceSource(
        Dataset.open(str(tmp_path / "old")),
        tuple(SourcePart(f"p{n}", 1, (UNIT_ROWS,)) for n in range(10)),
    )
    places: Any = np.array([(0, n // UNIT_ROWS, 0, n // 3, n % 3) for n in range(30)], PLACE)
    known = KnownPlaces((source,), places)
    made = plan_gather(JOB, plan, list(local_slices(plan, 2)), known, 2)
    assert (made.rows, made.gathers) == (30, ())
    shuffled = places.copy()
    shuffled["unit"] = np.random.default_rng(1).permutation(places["unit"])
    made = plan_gather(JOB, plan, list(local_slices(plan, 2)), KnownPlaces((source,), shuffled), 2)
    assert len(made.gathers) == 2
