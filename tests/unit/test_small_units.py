"""Small files of a slice form groups, and each unit of a group gets the result that it would get
alone."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.jobs import a_file, a_job, a_run, sent_texts

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.embedding import EmbeddingConfig, LongText
from bulkembed.schemas.errors import CallRejected
from bulkembed.schemas.job import JobConfig, OutputConfig
from bulkembed.schemas.units import CallCounts, FileUnits, Unit, UnitRecord
from bulkembed.transforms.clients.decoding import Answer
from bulkembed.transforms.core.tokens import TokenEstimator
from bulkembed.transforms.inputs.rows import RowBatch, RowSources
from bulkembed.transforms.units import small_units
from bulkembed.transforms.units.group_outcome import GroupOutcome
from bulkembed.transforms.units.outcome import UnitOutcome
from bulkembed.transforms.units.prepare import PreparedUnit, prepare
from bulkembed.transforms.units.small_units import MIN_FILES, grouped_files, prepared_groups

Texts = list[list[str | None]]
"""The texts of each file."""


def work(rows: int, number: int, rows_of_unit: int = 100) -> FileUnits:
    file = a_file(rows, f"f{number}.parquet")
    firsts = range(0, rows, rows_of_unit)
    units = (Unit(file.key, first, min(rows_of_unit, rows - first)) for first in firsts)
    return FileUnits(file, tuple(units))


@given(st.lists(st.integers(1, 150), max_size=40))
def test_consecutive_small_files_fill_groups(sizes: list[int]) -> None:
    files = [work(rows, number) for number, rows in enumerate(sizes)]
    groups = list(grouped_files(files, a_job(unit_rows=100)))
    assert [file for group in groups for file in group] == files
    small = [rows <= 50 for rows in sizes]
    for group in groups:
        assert len(group) == 1 or all(2 * file.rows <= 100 for file in group)
        assert len(group) == 1 or sum(file.rows for file in group) <= 100
    if sum(small) < MIN_FILES:
        assert all(len(group) == 1 for group in groups)
        return
    for one, two in itertools.pairwise(groups):
        if one[-1].rows <= 50 and two[0].rows <= 50:
            assert sum(file.rows for file in one) + two[0].rows > 100


def test_retried_files_form_no_groups() -> None:
    files = [work(2, number) for number in range(20)]
    (group,) = grouped_files(files, a_job())
    assert len(group) == 20
    record = UnitRecord(files[0].units[0], 1, 1, 0)
    retried = [dataclasses.replace(file, retry_of=(record,)) for file in files]
    assert all(len(group) == 1 for group in grouped_files(retried, a_job()))


def job(**changes: Any) -> JobConfig:
    embedding = EmbeddingConfig(
        service="developer", model="text-embedding-004", dim=2, **changes.pop("embedding", {})
    )
    return a_job(embedding=embedding, **changes)


def prepared_group(files: Texts, made: JobConfig, max_texts: int = 4000) -> list[PreparedUnit]:
    planned = [work(len(texts), number) for number, texts in enumerate(files)]
    rows = {one.file.name: a_run(texts) for one, texts in zip(planned, files, strict=True)}
    estimator = TokenEstimator(2048)

    def read(file: FileUnits) -> list[tuple[Unit, RowBatch]]:
        return [(file.units[0], rows[file.file.name])]

    return list(prepared_groups(made, estimator, planned, read, max_texts))


def vector_of(text: str) -> list[float]:
    return [1.0, float(len(text))]


FILES = st.lists(
    st.lists(st.sampled_from(["a", "bb", "ccc", "dddd", "eeeee", "ffffff", None]), min_size=1),
    min_size=2,
    max_size=6,
)


@given(FILES, st.booleans(), st.data())
def test_each_unit_of_a_group_has_the_result_that_it_has_alone(
    files: Texts, whole: bool, data: st.DataObject
) -> None:
    made = job()
    (unit,) = prepared_group(files, made)
    group = GroupOutcome(unit, made)
    texts = sorted({text for file in files for text in file if text is not None})
    result = {text: data.draw(st.sampled_from(["vector", "dead", "missing"])) for text in texts}
    give(group, unit, result)
    finished = group.finish_units(whole=whole)
    found = {record.unit: record for records, _ in finished for record in records}
    for at, member in enumerate(unit.members):
        batch = a_run(files[at])
        own = prepare(batch, member.unit, member.source_file, made, TokenEstimator(2048))
        alone = UnitOutcome(own, made)
        give(alone, own, result)
        expected = alone.finish_units(whole=whole)
        assert (member.unit.file_key in {one.file_key for one in found}) is bool(expected)
        if expected:
            ((record,), _) = expected[0]
            assert without_counts(found[record.unit]) == without_counts(record)
    check_tables(finished)
    counts = [record.counts for records, _ in finished for record in records]
    if counts:
        total, texts = sum(counts, CallCounts()), len(sent(unit, result))
        assert (total.calls, total.texts) == (int(texts > 0), texts)
        embedded = sum(record.embedded for records, _ in finished for record in records)
        assert total.repeated + len(hashes(finished)) == embedded


def sent(unit: PreparedUnit, result: dict[str, str]) -> list[Any]:
    return [item for item in sent_texts(unit) if result[item.text] == "vector"]


def hashes(finished: Any) -> set[bytes]:
    return {
        one
        for _, tables in finished
        if tables.vectors is not None
        for one in tables.vectors["text_hash"].to_pylist()
    }


def give(outcome: UnitOutcome, unit: PreparedUnit, result: dict[str, str]) -> None:
    answered = sent(unit, result)
    if answered:
        vectors = np.array([vector_of(item.text) for item in answered], np.float32)
        outcome.embedded(answered, Answer(vectors), 1)
    for item in sent_texts(unit):
        if result[item.text] == "dead":
            outcome.dead(item, DeadCode.REJECTED, CallRejected("no", http_status=400), 2)


def without_counts(record: UnitRecord) -> UnitRecord:
    return dataclasses.replace(record, counts=CallCounts())


def check_tables(finished: Any) -> None:
    """The first table has units without failed rows, and each other one has a single unit."""
    for at, (records, tables) in enumerate(finished):
        assert all(not record.dead for record in records) or len(records) == 1
        assert at == 0 or records[0].dead
        for table, counts in (
            (tables.vectors, [record.vectors for record in records]),
            (tables.dead_letters, [record.dead + record.skipped for record in records]),
        ):
            names = [] if table is None else table["source_file"].to_pylist()
            expected = [
                record.source_file
                for record, rows in zip(records, counts, strict=True)
                for _ in range(rows)
            ]
            assert names == expected


def test_a_group_with_many_passages_is_split_between_rows() -> None:
    text = "\n\n".join(f"Sentence {n} fills a passage of sixteen tokens, alone." for n in range(3))
    embedding = {"long_text": LongText.PASSAGES, "passage_tokens": 16, "passage_overlap": 0}
    files: Texts = [[f"{file} {row}. {text}" for row in range(3)] for file in range(4)]
    groups = prepared_group(files, job(embedding=embedding), max_texts=16)
    rows = [
        (member.unit.file_key, row)
        for group in groups
        for member in group.members
        for row in range(member.unit.first_row, member.unit.end_row)
    ]
    keys = list(dict.fromkeys(key for key, _ in rows))
    assert rows == [(key, row) for key in keys for row in range(3)]
    assert len(keys) == 4
    assert len(groups) > 1
    assert len({group.unit.file_key for group in groups}) == len(groups)
    for group in groups:
        assert group.unit.rows == group.rows.rows == sum(one.unit.rows for one in group.members)


def test_a_group_ends_with_the_file_that_reaches_the_limit_of_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(small_units, "MAX_GROUP_BYTES", 100)
    files: Texts = [["x" * 60], ["y" * 60], ["z" * 500], ["a"], ["b"]]
    groups = prepared_group(files, job())
    assert [[*map(len, map(str, group.rows.texts))] for group in groups] == [
        [60, 60],
        [500],
        [1, 1],
    ]


def test_a_group_has_no_more_partitions_than_a_unit_may_have() -> None:
    names = [f"lang-{number}" for number in range(300)]
    made = job(output=OutputConfig("out", partition_by="lang"))
    planned = [work(1, number) for number in range(300)]
    rows = {
        file.file.name: dataclasses.replace(a_run(["text"]), kept=pa.table({"lang": [name]}))
        for file, name in zip(planned, names, strict=True)
    }

    def read(file: FileUnits) -> list[tuple[Unit, RowBatch]]:
        return [(file.units[0], rows[file.file.name])]

    groups = prepared_groups(made, TokenEstimator(2048), planned, read, 4000)
    assert [group.unit.rows for group in groups] == [250, 50]


def test_joined_rows_keep_their_values_and_say_where_they_come_from() -> None:
    one = dataclasses.replace(
        a_run(["a", None], bad={1: (DeadCode.BAD_ID, "why")}, first_row=4),
        kept=pa.table({"lang": pa.array(["de", "en"]).dictionary_encode()}),
    )
    two = dataclasses.replace(
        a_run(["b"]),
        kept=pa.table({"lang": pa.array(["fr"]).dictionary_encode()}),
        unkept=frozenset({"lang"}),
        sources=RowSources(pa.array(["elsewhere"]), pa.array([7])),
    )
    joined = RowBatch.joined([one, two], ["x", "y"])
    assert joined.texts == ["a", None, "b"]
    assert joined.ids.to_pylist() == [4, 5, 0]
    assert joined.kept["lang"].take(pa.array([2, 0])).to_pylist() == ["fr", "de"]
    assert joined.bad == {1: (DeadCode.BAD_ID, "why")}
    assert joined.unkept == {"lang"}
    assert [joined.source(row, "") for row in range(3)] == [("x", 4), ("x", 5), ("elsewhere", 7)]


@pytest.mark.parametrize("rows", [0, 3])
def test_joined_rows_without_kept_columns_have_as_many_of_them(rows: int) -> None:
    joined = RowBatch.joined([a_run(["a"] * rows), a_run(["b"])], ["x", "y"])
    assert joined.kept.num_rows == joined.rows == rows + 1
