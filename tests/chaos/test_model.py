"""The model of the chaos test sees each kind of fault that it is there for."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chaos.history import POISON, History, Row, Rows, Settings, generate
from chaos.model import Floats, Model, Wrong, as_sent, text_hash
from chaos.play import work_ended
from chaos.shrink import shrunk

SETTINGS = Settings("gemini-embedding-001", "CLUSTERING", 4, normalize=False, titles=False)
ROWS: Rows = (
    *(Row(n, f"text {n}") for n in range(6)),
    Row(6, " "),
    Row(7, f"text 7 {POISON}"),
)


class HashService:
    """A vector made of the text's hash."""

    def vector(self, settings: Settings, title: str | None, text: str) -> Floats:
        digest = hashlib.sha256(f"{settings} {title} {text}".encode()).digest()
        return np.frombuffer(digest[: settings.dim], np.uint8).astype(np.float64)

    def key(self, settings: Settings, title: str | None, text: str) -> int:
        return int.from_bytes(text_hash(title, f"{settings} {text}")[:8], "little")


def a_model() -> Model:
    return Model(HashService(), SETTINGS, {"a.parquet": ROWS})


def embedded(row: Row, number: int, settings: Settings = SETTINGS) -> dict[str, Any]:
    title, text = as_sent(settings, row)
    return {
        "id": row.id,
        "vector": HashService().vector(settings, title, text).tolist(),
        "text_hash": text_hash(title, text),
        "source_file": "a.parquet",
        "source_row": number,
    }


def dead(row: Row, number: int, code: str) -> dict[str, Any]:
    values = {"id": row.id, "code": code, "message": "", "text": row.text}
    return {**values, "source_file": "a.parquet", "source_row": number}


def part(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def an_output(rows: list[dict[str, Any]] | None = None) -> dict[str, bytes]:
    """What a run over the rows must leave, or with other rows in `vectors/`."""
    whole = [embedded(ROWS[n], n) for n in range(6)]
    letters = [dead(ROWS[6], 6, "blank_text"), dead(ROWS[7], 7, "refused")]
    return {
        "vectors/part-1.parquet": part(whole if rows is None else rows),
        "dead_letters/part-1.parquet": part(letters),
        "_run/run.json": b"{}",
        "_SUCCESS": b"",
    }


def rows_but(number: int, **changed: Any) -> list[dict[str, Any]]:
    rows = [embedded(ROWS[n], n) for n in range(6)]
    rows[number] |= changed
    return rows


def test_a_right_output_passes() -> None:
    a_model().check_complete(an_output())


OTHER_TASK = dataclasses.replace(SETTINGS, task="SEMANTIC_SIMILARITY")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        pytest.param([*rows_but(0), rows_but(0)[2]], "row 2 of a.parquet is there 2", id="doubled"),
        pytest.param(rows_but(0)[1:], "rows of a.parquet are nowhere", id="missing"),
        pytest.param(
            rows_but(3, vector=embedded(ROWS[4], 4)["vector"]), "off by", id="another row's vector"
        ),
        pytest.param(
            rows_but(3, vector=embedded(ROWS[3], 3, OTHER_TASK)["vector"]), "off by",
            id="another task's vector",
        ),
        pytest.param(rows_but(3, vector=[1.0, 2.0, 3.0]), "has 3 numbers", id="another dim"),
        pytest.param(rows_but(3, id=4), "the id is 4", id="another row's id"),
        pytest.param(rows_but(3, text_hash=b"x" * 16), "text_hash", id="another text's hash"),
        pytest.param(rows_but(3, source_row=8), "not in the input", id="a row of no file"),
        pytest.param(
            [*rows_but(0), embedded(ROWS[7], 7)], "the service rejects", id="a dead row's vector"
        ),
        pytest.param(
            [*rows_but(0), {**rows_but(0)[5], "id": 6, "source_row": 6}], "but no text",
            id="a blank row's vector",
        ),
    ],
)  # fmt: skip
def test_wrong_rows_are_found(rows: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(Wrong, match=said):
        a_model().check_complete(an_output(rows))


def test_old_rows_of_a_file_that_changed_are_found_once_it_is_complete() -> None:
    model = a_model()
    model.change("a.parquet", (Row(0, "new text"), *ROWS[1:]), {})
    output = an_output()
    model.check(output)
    with pytest.raises(Wrong, match="text_hash"):
        model.check_complete(output)


def test_rows_of_a_file_that_is_gone_may_stay_until_they_are_pruned() -> None:
    model = a_model()
    model.change("a.parquet", None, {})
    model.check_complete(an_output())
    with pytest.raises(Wrong, match="not in the input"):
        model.check_complete(an_output(), pruned=True)


def test_a_part_cut_short_is_found_at_any_moment() -> None:
    output = an_output()
    output["vectors/part-1.parquet"] = output["vectors/part-1.parquet"][:-20]
    with pytest.raises(Wrong, match="cannot be read"):
        a_model().check(output)


def test_a_file_that_is_not_finished_is_none_until_a_run_completes() -> None:
    output = {**an_output(), "vectors/.tmp-1-part.parquet": b""}
    a_model().check(output)
    with pytest.raises(Wrong, match="left behind"):
        a_model().check_complete(output)


@pytest.mark.parametrize(
    "name",
    [
        "vectors/.tmp-1-x", "_run/lock.json", "_run/claims/r.json", "_run/stops/r.json",
        "_run/spill/a.spill", "_run/shared/a.spill",
    ],
)  # fmt: skip
def test_what_a_run_leaves_behind_is_found(name: str) -> None:
    with pytest.raises(Wrong, match="left behind"):
        a_model().check_complete({**an_output(), name: b""})


def test_a_complete_output_without_its_mark_is_found() -> None:
    output = an_output()
    del output["_SUCCESS"]
    with pytest.raises(Wrong, match="_SUCCESS"):
        a_model().check_complete(output)


def test_texts_paid_for_twice_are_found_beyond_what_kills_may_have_cost() -> None:
    model = a_model()
    keys = sorted(model.keys_of(ROWS))
    model.pay(dict.fromkeys(keys, 1))
    model.check_paid()
    model.licence = 2
    model.pay({keys[0]: 1, keys[1]: 1})
    model.check_paid()
    model.pay({keys[2]: 1})
    with pytest.raises(Wrong, match="3 texts were paid for twice"):
        model.check_paid()


def test_a_text_paid_for_that_no_row_has_is_found() -> None:
    with pytest.raises(Wrong, match="not in the input"):
        a_model().pay({1: 1})


def test_after_a_fresh_run_has_begun_everything_may_be_paid_for_once_more() -> None:
    model = a_model()
    paid = dict.fromkeys(model.keys_of(ROWS), 1)
    model.pay(paid)
    model.restart(SETTINGS)
    model.pay(paid)
    model.check_paid()


def test_texts_that_went_with_their_last_row_may_be_paid_for_once_more() -> None:
    model = a_model()
    model.pay(dict.fromkeys(model.keys_of(ROWS), 1))
    output = an_output()
    model.change("a.parquet", ROWS[:3], output)
    output["vectors/part-1.parquet"] = part(rows_but(0)[:3])
    model.completed(output, pruned=False)
    assert model.held == model.keys_of(ROWS[:3])


def test_a_seed_always_gives_the_same_history() -> None:
    assert generate(7, "disk") == generate(7, "disk") != generate(8, "disk")


def test_a_failing_history_shrinks_to_the_steps_that_matter() -> None:
    history = generate(7, "disk")
    needed = history.steps[1]

    def play(history: History) -> Wrong | None:
        return Wrong("found") if needed in history.steps else None

    short, wrong = shrunk(history, Wrong("at first"), play)
    assert short.steps == (needed,)
    assert str(wrong) == "found"


@pytest.mark.parametrize(
    ("lines", "meant"),
    [
        pytest.param([], -15, id="before-the-end"),
        pytest.param(["rows 9 in: 9 embedded, 0 remaining", "output /o"], 0, id="complete"),
        pytest.param(["rows 9 in: 5 embedded, 4 remaining", "output /o"], 75, id="stopped"),
        pytest.param(
            [
                "rows 9 in: 9 embedded, 0 remaining",
                "dataset 30 in: 29 embedded, 1 remaining",
                "output /o",
            ],
            75,
            id="rows-of-the-dataset-left",
        ),
    ],
)
def test_a_signal_behind_the_summary_does_not_change_what_the_run_came_to(
    lines: list[str], meant: int
) -> None:
    assert work_ended(-15, "\n".join(lines) + "\n") == meant
