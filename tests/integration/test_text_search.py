"""Shared texts and known vectors are found as a plain search in memory finds them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import python
from support.jobs import a_job

from bulkembed.pipeline.run import text_search
from bulkembed.pipeline.run.plan import Plan, make_plan
from bulkembed.pipeline.run.scans import scan_inputs
from bulkembed.pipeline.run.text_search import TEXT, FoundTexts, distinct_keys, search_texts
from bulkembed.schemas.embedding import EmbeddingConfig, LongText
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.output_schema import TEXT_HASH_TYPE
from bulkembed.transforms.calls.stopping import Stopping
from bulkembed.transforms.core.content import sent_hash
from bulkembed.transforms.core.hashing import keys
from bulkembed.transforms.core.passages import passage_spans
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.hash_index import HashIndex
from bulkembed.transforms.dataset.records import DatasetState

UNIT_ROWS = 4


def write_files(folder: Path, files: list[list[str | None]]) -> None:
    folder.mkdir()
    for number, texts in enumerate(files):
        lines = (json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(texts))
        (folder / f"{number}.jsonl").write_text("".join(lines))


def planned(tmp_path: Path, job: JobConfig) -> Plan:
    dataset = Dataset.open(str(tmp_path / "out"))
    scans = scan_inputs(dataset, [str(tmp_path / "in")], job.columns)
    return make_plan(scans.inputs, DatasetState(), UNIT_ROWS)


def source(root: Path, job: JobConfig, parts: list[list[str]]) -> HashIndex:
    sizes = {}
    (root / "vectors").mkdir(parents=True)
    for number, texts in enumerate(parts):
        hashes = pa.array([sent_hash(job.embedding, None, text) for text in texts], TEXT_HASH_TYPE)
        path = root / f"vectors/{number}.parquet"
        pq.write_table(pa.table({"text_hash": hashes}), path)
        sizes[f"vectors/{number}.parquet"] = path.stat().st_size
    (root / "scratch").mkdir()
    dataset = Dataset.open(str(root))
    return HashIndex(dataset, sizes, job.embedding.digest, root / "scratch", keep=True)


def units_of(files: list[list[str | None]]) -> list[list[tuple[int, str]]]:
    """Return the texts of each unit with their planned rows, by counting."""
    units, first = [], 0
    for texts in files:
        for start in range(0, len(texts), UNIT_ROWS):
            rows = texts[start : start + UNIT_ROWS]
            units.append([(first + n, text) for n, text in enumerate(rows) if text])
            first += len(rows)
    return units


def known_texts(found: FoundTexts, job: JobConfig, texts: set[str]) -> list[tuple[int, str, str]]:
    """Return the unit, the text and the place of each known vector."""
    by_key = {int(keys([sent_hash(job.embedding, None, text)])[0]): text for text in texts}
    result = []
    for place in found.known.places:
        origin = found.known.sources[place["source"]]
        name = f"{Path(origin.dataset.root).name}/{origin.parts[place['part']].name}"
        text = by_key[int(place["key"])]
        result.append((int(place["unit"]), text, f"{name}:{place['row']}"))
    return result


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("memory", ["plenty", "little"])
def test_shared_and_known_texts_are_found(
    tmp_path: Path, seed: int, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if memory == "little":
        monkeypatch.setattr(text_search, "BUFFER_BYTES", 3 * TEXT.itemsize)
        monkeypatch.setattr(text_search, "PARTITION_BYTES", 70)
    draw = random.Random(seed)
    pool: list[str | None] = [None, "", *(f"text {n}" for n in range(25))]
    files = [draw.choices(pool, k=draw.randint(1, 15)) for _ in range(3)]
    files.append(["alone"])
    write_files(tmp_path / "in", files)
    job = a_job()
    known = [draw.sample([t for t in pool if t], 6) for _ in range(4)]
    sources = [source(tmp_path / "one", job, known[:2]), source(tmp_path / "two", job, known[2:])]
    (tmp_path / "work").mkdir()
    plan = planned(tmp_path, job)
    found = search_texts(job, plan, sources, tmp_path / "work")
    assert not list((tmp_path / "work").iterdir())

    units = units_of(files)
    names = ["one/vectors/0", "one/vectors/1", "two/vectors/0", "two/vectors/1"]
    first_place: dict[str, str] = {}
    for name, texts in zip(names, known, strict=True):
        for row, text in enumerate(texts):
            first_place.setdefault(text, f"{name}.parquet:{row}")
    wanted = {
        (number, text, first_place[text])
        for number, unit in enumerate(units)
        for _, text in unit
        if text in first_place
    }
    texts = {text for unit in units for _, text in unit}
    places = known_texts(found, job, texts)
    assert sorted(places) == sorted(wanted)
    assert [place for _, _, place in places] == sorted(place for _, _, place in places)
    assert found.known_texts == len({text for _, text, _ in wanted})

    units_with: dict[str, set[int]] = {}
    first_row: dict[str, int] = {}
    for number, unit in enumerate(units):
        for row, text in unit:
            units_with.setdefault(text, set()).add(number)
            first_row.setdefault(text, row)
    shared = [t for t in texts if len(units_with[t]) > 1 and t not in first_place]
    assert found.rows.tolist() == sorted(first_row[text] for text in shared)
    assert not found.passages.any()


def test_passages_of_several_rows_are_found_even_in_one_unit(tmp_path: Path) -> None:
    embedding = EmbeddingConfig(
        service="developer",
        model="gemini-embedding-001",
        long_text=LongText.PASSAGES,
        passage_tokens=16,
        passage_overlap=0,
    )
    words = ["alpha", "beta", "gamma", "delta"]
    one, two, three, four = (f"{word} " * 9 + "\n\n" for word in words)
    texts: list[str | None] = [one + two, two + three, four + four, three + one]
    write_files(tmp_path / "in", [texts])
    job = a_job(embedding=embedding)
    found = search_texts(job, planned(tmp_path, job), [], tmp_path)

    places: dict[str, list[tuple[int, int]]] = {}
    for row, text in enumerate(texts):
        assert text is not None
        for number, (start, end) in enumerate(passage_spans(embedding, None, text)):
            places.setdefault(text[start:end], []).append((row, number))
    shared = sorted(found[0] for found in places.values() if len({row for row, _ in found}) > 1)
    assert len(shared) == 3
    assert list(zip(found.rows.tolist(), found.passages.tolist(), strict=True)) == shared


def test_the_search_writes_nothing_if_all_fits_into_memory(tmp_path: Path) -> None:
    write_files(tmp_path / "in", [["a"], ["a"]])
    job = a_job()
    found = search_texts(job, planned(tmp_path, job), [], tmp_path / "missing")
    assert found.rows.tolist() == [0]


def test_every_missing_text_is_found_with_its_key(tmp_path: Path) -> None:
    files: list[list[str | None]] = [["b", "a", None, "b"], ["known", "c", "settled", "a"]]
    write_files(tmp_path / "in", files)
    job = a_job()
    plan = planned(tmp_path, job)
    known = source(tmp_path / "one", job, [["known"]])
    settled = keys([sent_hash(job.embedding, None, "settled")])
    found = search_texts(job, plan, [known], tmp_path, every=True, settled=settled)
    assert found.rows.tolist() == [0, 1, 5]
    expected = [sent_hash(job.embedding, None, text) for text in ("b", "a", "c")]
    assert found.keys.tolist() == keys(expected).tolist()


def test_settled_texts_are_not_shared_and_those_that_units_want_are_named(tmp_path: Path) -> None:
    files: list[list[str | None]] = [["a", "old", "known", "b"], ["a", "b", None, "old", "known"]]
    write_files(tmp_path / "in", files)
    job = a_job()
    plan = planned(tmp_path, job)
    known = source(tmp_path / "one", job, [["known"]])
    hashes = [sent_hash(job.embedding, None, text) for text in ("a", "known", "of others")]
    found = search_texts(job, plan, [known], tmp_path, settled=np.unique(keys(hashes)))
    assert found.rows.tolist() == [1, 3]
    assert found.settled.tolist() == keys(hashes[:1]).tolist()


def test_distinct_keys_are_those_of_all_texts(tmp_path: Path) -> None:
    write_files(tmp_path / "in", [["a", None, "b", "a"], ["b", "c"]])
    job = a_job()
    found = distinct_keys(job, planned(tmp_path, job), lambda: None)
    expected = keys([sent_hash(job.embedding, None, text) for text in ("a", "b", "c")])
    assert found.tolist() == sorted(expected.tolist())


@pytest.mark.parametrize("calls", [1, 4])
def test_a_search_ends_with_what_its_check_raises(tmp_path: Path, calls: int) -> None:
    write_files(tmp_path / "in", [["a", "b", "c", "d", "e", "f", "g", "h", "i"]])
    job = a_job()
    counted = iter(range(1, calls))

    def check() -> None:
        if next(counted, None) is None:
            raise Stopping

    with pytest.raises(Stopping):
        search_texts(job, planned(tmp_path, job), [], tmp_path, check=check)


def test_threads_that_compare_keys_import_nothing_at_the_same_moment() -> None:
    """np.unique imports numpy.ma, in which two threads at once end with a RecursionError."""
    code = "import sys, bulkembed.transforms.core.hashing; sys.exit('numpy.ma' not in sys.modules)"
    assert python("-c", code).code == 0
