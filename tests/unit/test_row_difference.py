"""The difference between input and dataset, compared with a model in plain Python."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.transforms.core.row_difference import (
    COMMITTED_ROW,
    INPUT_ROW,
    Kind,
    RowDifference,
    RowTally,
    Why,
    difference,
)

IDS = st.integers(0, 5)
CONTENTS = st.integers(1, 3)
WANTED = st.lists(st.tuples(IDS, CONTENTS, st.integers(0, 1), st.booleans()), max_size=12)
COMMITTED = st.lists(
    st.tuples(
        IDS, CONTENTS, st.integers(0, 1), st.sampled_from(Kind), st.integers(1, 3), st.booleans()
    ),
    max_size=12,
)


@dataclasses.dataclass
class Model:
    """What a dictionary makes of the same rows."""

    send: dict[int, Why]
    keep: set[int]
    gone: set[int]


def input_rows(rows: list[tuple[int, int, int, bool]]) -> np.ndarray:
    found = np.zeros(len(rows), INPUT_ROW)
    for at, (key, content, columns, has_id) in enumerate(rows):
        letter = content + 100
        found[at] = (key if has_id else letter, 7, content, letter, columns, at, has_id, False)
    return found


def committed_rows(rows: list[tuple[int, int, int, Kind, int, bool]]) -> np.ndarray:
    found = np.zeros(len(rows), COMMITTED_ROW)
    place = 0
    for at, (key, content, columns, kind, count, has_id) in enumerate(rows):
        is_letter = kind is not Kind.VECTORS or not has_id
        content = content + 100 if is_letter else content
        kind = Kind.FAILED if is_letter and kind is Kind.VECTORS else kind
        count = 1 if is_letter else count
        found[at] = (
            key if has_id else content, 7, content, columns, place, count, at, kind, has_id,
        )  # fmt: skip
        place += count
    return found


def model_of(wanted: np.ndarray, committed: np.ndarray) -> Model:
    def name(row: np.void, seen: collections.Counter[object]) -> object:
        if row["has_id"]:
            return ("id", int(row["id_high"]))
        seen[int(row["id_high"])] += 1
        return ("none", int(row["id_high"]), seen[int(row["id_high"])])

    seen: collections.Counter[object] = collections.Counter()
    last = {name(row, seen): row for row in wanted}
    seen = collections.Counter()
    old: dict[object, list[int]] = collections.defaultdict(list)
    for at, row in enumerate(committed):
        old[name(row, seen)].append(at)
    keep, send = set(), {}
    for identity, row in last.items():
        equal = {Kind.VECTORS: -1, Kind.FAILED: -1}
        why = Why.NEW
        whys = [why]
        for at in old[identity]:
            other = committed[at]
            is_vector = other["kind"] == Kind.VECTORS
            same = other["content"] == (row["content"] if is_vector else row["letter"])
            whys.append(Why.CONTENT)
            if same and is_vector and other["columns"] == row["columns"]:
                equal[Kind.VECTORS] = at
            elif same and is_vector:
                whys.append(Why.COLUMNS)
            elif same and other["kind"] != Kind.RETRIED:
                equal[Kind.FAILED] = at
            elif same:
                whys.append(Why.RETRY)
        best = equal[Kind.VECTORS] if equal[Kind.VECTORS] >= 0 else equal[Kind.FAILED]
        if best >= 0:
            keep.add(best)
            continue
        order = [Why.NEW, Why.CONTENT, Why.RETRY, Why.COLUMNS]
        send[int(row["place"])] = max(whys, key=order.index)
    gone = {
        int(committed[ats[0]]["id_high"])
        for identity, ats in old.items()
        if ats and identity not in last and committed[ats[0]]["has_id"]
    }
    return Model(send, keep, gone)


@given(WANTED, COMMITTED)
def test_the_difference_is_that_of_a_dictionary(wanted: list, committed: list) -> None:
    rows, old = input_rows(wanted), committed_rows(committed)
    expected = model_of(rows, old)
    found = difference(rows, old)
    send = dict(zip(found.send.tolist(), found.send_why.tolist(), strict=True))
    assert send == {place: int(why) for place, why in expected.send.items()}
    removed = [
        place
        for at, row in enumerate(old)
        if at not in expected.keep
        for place in range(row["place"], row["place"] + row["rows"])
    ]
    assert sorted(found.remove.tolist()) == removed
    assert found.tally.gone == len(expected.gone)
    assert found.tally.unchanged == len(expected.keep)
    assert found.tally.to_send == len(expected.send)
    assert found.tally.input_rows == found.tally.unchanged + len(send) + found.tally.repeated
    assert len(found.repeated) == found.tally.repeated


@given(WANTED, COMMITTED)
def test_the_order_of_the_rows_does_not_matter(wanted: list, committed: list) -> None:
    rows, old = input_rows(wanted), committed_rows(committed)
    found, turned = difference(rows, old), difference(rows[::-1], old[::-1])
    assert found.tally == turned.tally
    assert sorted(found.send.tolist()) == sorted(turned.send.tolist())
    assert sorted(found.remove.tolist()) == sorted(turned.remove.tolist())


@given(WANTED, COMMITTED)
def test_a_part_of_the_ids_can_be_compared_alone(wanted: list, committed: list) -> None:
    rows, old = input_rows(wanted), committed_rows(committed)
    whole = RowDifference.joined([difference(rows, old)])
    parts = [
        difference(rows[rows["id_high"] % 3 == n], old[old["id_high"] % 3 == n]) for n in range(3)
    ]
    joined = RowDifference.joined(parts)
    assert joined.tally == whole.tally
    for name in ("send", "send_why", "remove", "repeated"):
        assert getattr(joined, name).tolist() == getattr(whole, name).tolist()


def test_ids_that_differ_in_half_of_their_key_only_are_different() -> None:
    rows = input_rows([(1, 1, 0, True), (1, 1, 0, True)])
    rows["id_low"] = [7, 8]
    assert difference(rows, committed_rows([])).tally == RowTally(input_rows=2, new=2)
