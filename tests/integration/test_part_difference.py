"""The difference of two states of a dataset, compared with one made by plain Python."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.id_index import IdIndex, InconsistentIndexError
from bulkembed.transforms.dataset.part_difference import ChangeCounts, PartDifference
from bulkembed.transforms.dataset.row_keys import id_keys


@dataclasses.dataclass(frozen=True)
class Row:
    id: str
    text: int
    lang: str | None = None
    passage: int = 0

    @property
    def hash(self) -> bytes:
        return self.text.to_bytes(16, "little")


def write(root: Path, name: str, rows: Sequence[Row], *, passages: bool = False) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        "id": pa.array([row.id for row in rows], pa.string()),
        "lang": pa.array([row.lang for row in rows], pa.string()),
        "text_hash": pa.array([row.hash for row in rows], pa.binary(16)),
    }
    if passages:
        columns["passage"] = pa.array([row.passage for row in rows], pa.int32())
    table = pa.table(columns)
    if passages:
        table = table.replace_schema_metadata({"bulkembed.rows": "passages"})
    pq.write_table(table, path)


def differ(
    root: Path,
    old: dict[str, list[Row]],
    new: dict[str, list[Row]],
    *,
    passages: bool = False,
    likely_rows: int = 0,
) -> tuple[ChangeCounts, list[dict[str, object]]]:
    for name, rows in (old | new).items():
        write(root, name, rows, passages=passages)
    removed, added = sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys())
    found = PartDifference(
        Dataset.open(str(root)), removed, added, ["lang"], root, rows=likely_rows
    )
    schema = found.schema({})
    if schema is None:
        return found.counts, []
    return found.counts, pa.Table.from_batches(found.batches(schema), schema).to_pylist()


def expected(old: Iterable[Row], new: Iterable[Row]) -> dict[str, tuple[str, bool]]:
    """The change of each id that has one."""
    before, after = collections.defaultdict(list), collections.defaultdict(list)
    for rows, by_id in ((old, before), (new, after)):
        for row in rows:
            by_id[row.id].append(row)
    found = {}
    for one in before.keys() | after.keys():
        was = collections.Counter((row.text, row.passage) for row in before[one])
        now = collections.Counter((row.text, row.passage) for row in after[one])
        if not before[one]:
            found[one] = ("added", True)
        elif not after[one]:
            found[one] = ("deleted", True)
        elif was != now:
            found[one] = ("changed", True)
        elif collections.Counter(before[one]) != collections.Counter(after[one]):
            found[one] = ("changed", False)
    return found


ROWS = st.builds(
    Row,
    id=st.sampled_from([f"id-{n}" for n in range(12)]),
    text=st.integers(0, 3),
    lang=st.sampled_from(["en", "de", None]),
)
PARTS = st.lists(st.lists(ROWS, max_size=6), max_size=4)
LIKELY_ROWS = st.sampled_from([0, 3_000_000])
"""The number of rows that the partitions are made for: one partition, or eight."""


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(unchanged=PARTS, old=PARTS, new=PARTS, likely_rows=LIKELY_ROWS)
def test_the_difference_is_that_of_multisets_of_rows_by_id(
    tmp_path_factory: object,
    unchanged: list[list[Row]],
    old: list[list[Row]],
    new: list[list[Row]],
    likely_rows: int,
) -> None:
    root = tmp_path_factory.mktemp("data")  # type: ignore[attr-defined]
    both = {f"vectors/both-{n}.parquet": rows for n, rows in enumerate(unchanged)}
    before = {f"vectors/old-{n}.parquet": rows for n, rows in enumerate(old)}
    after = {f"vectors/new-{n}.parquet": rows for n, rows in enumerate(new)}
    counts, feed = differ(root, both | before, both | after, likely_rows=likely_rows)
    want = expected(*([row for rows in parts for row in rows] for parts in (old, new)))
    got = {row["id"]: (row["change"], row["vector_changed"]) for row in feed}
    assert got == want
    changes = collections.Counter(change for change, _ in want.values())
    assert counts == ChangeCounts(changes["added"], changes["changed"], changes["deleted"])
    listed = collections.Counter(row["id"] for row in feed)
    for one, (change, _) in want.items():
        rows = [row for part in new for row in part if row.id == one]
        assert listed[one] == (1 if change == "deleted" else len(rows))
    for row in feed:
        if row["change"] == "deleted":
            assert row["part"] is row["row"] is row["text_hash"] is None
        else:
            at = after[row["part"]][row["row"]]  # type: ignore[index]
            assert (row["id"], row["text_hash"]) == (at.id, at.hash)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(unchanged=PARTS, old=PARTS, new=PARTS, has_index=st.booleans(), likely_rows=LIKELY_ROWS)
def test_rows_in_unchanged_parts_count_as_well(
    tmp_path_factory: object,
    unchanged: list[list[Row]],
    old: list[list[Row]],
    new: list[list[Row]],
    has_index: bool,
    likely_rows: int,
) -> None:
    root = tmp_path_factory.mktemp("data")  # type: ignore[attr-defined]
    both = {f"vectors/both-{n}.parquet": rows for n, rows in enumerate(unchanged)}
    before = {f"vectors/old-{n}.parquet": rows for n, rows in enumerate(old)}
    after = {f"vectors/new-{n}.parquet": rows for n, rows in enumerate(new)}
    for name, rows in (both | before | after).items():
        write(root, name, rows)
    dataset = Dataset.open(str(root))
    index = None
    if has_index:
        empty = IdIndex.empty()
        first = PartDifference(dataset, [], sorted(both | before), [], root, index=empty)
        assert first.ids is not None
        first.ids.store(dataset, "_run/ids/a.keys")
        index = IdIndex.open(dataset, "_run/ids/a.keys", root)
        assert index is not None
    found = PartDifference(
        dataset, sorted(before), sorted(after), ["lang"], root,
        rows=likely_rows, unchanged=sorted(both), index=index,
    )  # fmt: skip
    schema = found.schema({})
    feed = []
    if schema is not None:
        feed = pa.Table.from_batches(found.batches(schema), schema).to_pylist()
    rows_before = [row for part in (both | before).values() for row in part]
    rows_after = [row for part in (both | after).values() for row in part]
    want = expected(rows_before, rows_after)
    assert {row["id"]: (row["change"], row["vector_changed"]) for row in feed} == want
    listed = collections.Counter(row["id"] for row in feed)
    for one, (change, _) in want.items():
        rows = [row for row in rows_after if row.id == one]
        assert listed[one] == (1 if change == "deleted" else len(rows))
    assert found.ids is not None
    assert found.ids.repeated == len(rows_after) - len({row.id for row in rows_after})
    found.ids.store(dataset, "_run/ids/b.keys")
    now = IdIndex.open(dataset, "_run/ids/b.keys", root)
    assert now is not None
    keys = id_keys(pa.array([row.id for row in rows_after], pa.string()))[:, 0]
    np.testing.assert_array_equal(now.keys, np.sort(keys))


def test_an_index_of_another_state_or_a_damaged_one_is_not_used(tmp_path: Path) -> None:
    write(tmp_path, "vectors/o.parquet", [Row("a", 1), Row("b", 2)])
    write(tmp_path, "vectors/n.parquet", [Row("a", 1)])
    dataset = Dataset.open(str(tmp_path))
    with pytest.raises(InconsistentIndexError):
        PartDifference(
            dataset, ["vectors/o.parquet"], ["vectors/n.parquet"], [], tmp_path,
            index=IdIndex.empty(),
        )  # fmt: skip
    found = PartDifference(dataset, [], ["vectors/o.parquet"], [], tmp_path)
    assert found.ids is not None
    found.ids.store(dataset, "ids")
    path = tmp_path / "ids"
    data = path.read_bytes()
    for damaged in (b"", data[:-1], data[8:], bytes([data[0] ^ 1]) + data[1:]):
        path.write_bytes(damaged)
        assert IdIndex.open(dataset, "ids", tmp_path) is None
    assert IdIndex.open(dataset, "nowhere", tmp_path) is None


def test_all_passages_of_a_changed_id_are_listed(tmp_path: Path) -> None:
    old = [Row("a", 1, passage=0), Row("a", 2, passage=1), Row("b", 5), Row("c", 7)]
    new = [Row("a", 1, passage=0), Row("a", 3, passage=1), Row("b", 5), Row("d", 7)]
    counts, feed = differ(
        tmp_path, {"vectors/o.parquet": old}, {"vectors/n.parquet": new}, passages=True
    )
    assert counts == ChangeCounts(1, 1, 1)
    assert [(row["id"], row["passage"], row["change"]) for row in feed] == [
        ("c", None, "deleted"),
        ("a", 0, "changed"),
        ("a", 1, "changed"),
        ("d", 0, "added"),
    ]


def test_passages_in_another_order_are_a_change(tmp_path: Path) -> None:
    old = [Row("a", 1, passage=0), Row("a", 2, passage=1)]
    new = [Row("a", 2, passage=0), Row("a", 1, passage=1)]
    counts, _ = differ(
        tmp_path, {"vectors/o.parquet": old}, {"vectors/n.parquet": new}, passages=True
    )
    assert counts == ChangeCounts(changed=1)


def test_many_rows_are_compared_in_partitions(tmp_path: Path) -> None:
    old = [Row(f"id-{n}", n) for n in range(5000)]
    new = [Row(row.id, row.text + (row.text % 100 == 0)) for row in reversed(old[50:])]
    new += [Row("new", 1)]
    for name, rows in (("vectors/o.parquet", old), ("vectors/n.parquet", new)):
        write(tmp_path, name, rows)
    names = (["vectors/o.parquet"], ["vectors/n.parquet"])
    dataset = Dataset.open(str(tmp_path))
    found = PartDifference(dataset, *names, ["lang"], tmp_path, rows=10**8)
    assert found.counts == ChangeCounts(added=1, changed=49, deleted=50)
    feed = pa.Table.from_batches(found.batches(schema := found.schema({})), schema)
    assert len(feed) == 100
