"""EmbedRows in a user's own pipeline: each row gets a vector or a reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult
from apache_beam.testing import test_stream
from apache_beam.testing.util import assert_that
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from apache_beam.typehints.row_type import RowTypeConstraint
from support.cli import asked_alone

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.schemas.dead_letters import DeadLetter
from bulkembed.schemas.errors import CallRejected, JobRejected, QuotaExceeded
from bulkembed.schemas.quota import QuotaLimits
from bulkembed.transforms.calls import metrics
from bulkembed.transforms.clients.transport import service_from
from bulkembed.transforms.embed_rows import EmbedRows, Gemini

DIM = 128
ROW_TYPE = RowTypeConstraint.from_fields([("id", int), ("text", str)])
WITH_VECTOR = RowTypeConstraint.from_fields(
    [("id", int), ("text", str), ("vector", Sequence[float])]
)


class Doc(NamedTuple):
    id: int
    text: str


def gemini(server: EmulatorServer, **settings: Any) -> Gemini:
    return Gemini(dim=DIM, service=service_from(base_url=server.url), **settings)


def served(**settings: Any) -> EmulatorServer:
    return EmulatorServer(EmulatorSettings(**settings))


def holds(expected: object, key: Callable[[Any], Any]) -> Callable[[Iterable[Any]], None]:
    """A matcher: the sorted keys of all elements are these."""

    def check(found: Iterable[Any]) -> None:
        assert sorted(map(key, found)) == expected

    return check


def local() -> beam.Pipeline:
    return beam.Pipeline(runner="FnApiRunner")


LONG = "\n\n".join(f"Paragraph {n} is long enough to stand alone, as it is." for n in range(3))


def test_a_long_text_gets_the_mean_of_its_passages_and_fails_if_one_of_them_does() -> None:
    cut = {"long_text": "mean", "passage_tokens": 16}
    with served(poison="poison") as server:
        parts = [
            asked_alone(server.url, part, outputDimensionality=DIM) for part in LONG.split("\n\n")
        ]
        mean = np.sum([part / np.linalg.norm(part) for part in parts], axis=0)
        with local() as pipeline:
            rows = pipeline | beam.Create([{"text": LONG}, {"text": f"{LONG}\n\npoison {LONG}"}])
            good, bad = rows | EmbedRows(gemini(server, **cut)).with_exception_handling()
            near = holds([True], lambda row: row["vector"] @ mean > 0.9999 * np.linalg.norm(mean))
            assert_that(good, near, label="good")
            assert_that(bad, holds(["refused"], lambda letter: letter.code), label="bad")


def counters(result: PipelineResult) -> dict[str, int]:
    found = result.metrics().query(MetricsFilter().with_namespace(metrics.ROWS_NAMESPACE))
    return {counter.key.metric.name: counter.result for counter in found["counters"]}


ROWS = [
    pytest.param(lambda n: beam.Row(id=n, text=f"text {n}"), None, id="row"),
    pytest.param(lambda n: Doc(n, f"text {n}"), Doc, id="named-tuple"),
    pytest.param(lambda n: {"id": n, "text": f"text {n}"}, dict[str, Any], id="dict"),
]


@pytest.mark.parametrize(("make", "kind"), ROWS)
def test_each_row_gets_the_vector_of_its_text(make: Any, kind: Any) -> None:
    with served() as server:
        alone = asked_alone(server.url, "text 7", outputDimensionality=DIM)

        def check(found: list[Any]) -> None:
            rows = [row if isinstance(row, dict) else row._asdict() for row in found]
            assert sorted(row["id"] for row in rows) == list(range(30))
            (seven,) = (row for row in rows if row["id"] == 7)
            assert np.array_equal(np.array(seven["vector"], np.float32), alone)

        with local() as pipeline:
            made = beam.Map(make)
            rows = (
                pipeline
                | beam.Create(range(30))
                | (made if kind is None else made.with_output_types(kind))
            )
            # A shuffle after the stage takes the elements through the coder of their type.
            out = rows | EmbedRows(gemini(server, normalize=False)) | beam.Reshuffle()
            assert_that(out, check)


class DocVector(NamedTuple):
    id: int
    text: str
    vector: Sequence[float]


def test_a_consumer_that_declares_floats_gets_floats(server: EmulatorServer) -> None:
    texts = [beam.Row(id=n, text=f"text {n}") for n in range(3)]
    with local() as pipeline:
        out = (
            pipeline
            | beam.Create(texts).with_output_types(ROW_TYPE)
            | EmbedRows(gemini(server))
            | beam.Map(_own_type).with_input_types(WITH_VECTOR).with_output_types(DocVector)
            # A shuffle takes the rows through the coder of that type.
            | beam.Reshuffle()
            | beam.Map(lambda row: {type(number) for number in row.vector})
        )
        assert_that(out, holds([{float}] * 3, set))


def _own_type(row: beam.Row) -> DocVector:
    assert {type(number) for number in row.vector} == {float}
    return DocVector(row.id, row.text, row.vector)


@pytest.mark.parametrize("kind", [pa.RecordBatch, pa.Table])
def test_arrow_batches_keep_their_type_and_lose_only_bad_rows(kind: Any) -> None:
    batch = kind.from_pydict({"id": [1, 2, 3], "text": ["a", "", "c"]})

    def check(found: list[Any]) -> None:
        (out,) = found
        assert isinstance(out, kind)
        assert out.schema.field("vector").type == pa.list_(pa.float32(), DIM)
        assert out.column("id").to_pylist() == [1, 3]

    with served() as server, local() as pipeline:
        good, bad = (
            pipeline | beam.Create([batch]) | EmbedRows(gemini(server)).with_exception_handling()
        )
        assert_that(good, check, "Good")
        assert_that(bad, holds([2], lambda letter: letter.element["id"][0].as_py()), "Bad")


TEXTS = [f"text {n}" for n in range(40)]


@pytest.mark.parametrize("fault", ["503", "reset", "short", "broken-json", "null", "429"])
def test_a_fault_of_the_service_is_retried_and_fails_no_row(fault: str) -> None:
    texts = [f"text {n}" for n in range(250)]
    with served(script=("ok", fault, "ok")) as server:
        with local() as pipeline:
            rows = pipeline | beam.Create([{"text": text} for text in texts], reshuffle=False)
            good, bad = rows | EmbedRows(gemini(server)).with_exception_handling()
            assert_that(good, holds(sorted(texts), lambda row: row["text"]), "Good")
            assert_that(bad, holds([], repr), "Bad")
        assert server.stats()["answers"]["200"] >= 3
        assert server.stats()["calls"] >= 4


def test_bad_rows_are_dead_letters_and_all_rows_are_counted() -> None:
    texts = [*TEXTS, TEXTS[0], "this is poison", "", None, 7]
    with served(poison="poison") as server:
        pipeline = local()
        rows = pipeline | beam.Create([{"text": text} for text in texts], reshuffle=False)
        good, bad = rows | EmbedRows(gemini(server)).with_exception_handling("ok", "dead")
        assert_that(good, holds(sorted([*TEXTS, TEXTS[0]]), lambda row: row["text"]), "Good")
        reasons = [
            ("bad_text", 7, None),
            ("blank_text", "", None),
            ("blank_text", None, None),
            ("refused", "this is poison", 400),
        ]
        assert_that(bad, holds(sorted(map(repr, reasons)), _reason), "Bad")
        result = pipeline.run()
        result.wait_until_finish()
        counts = counters(result)
    assert counts["rows_in"] == len(texts) == counts["rows_out"] + counts["rows_dead"]
    assert counts["rows_dead"] == 4
    assert counts["dead_blank_text"] == 2
    assert counts["repeated"] == 1
    assert counts["texts"] == len(TEXTS)
    assert counts["calls_sent"] >= 3
    assert counts["tokens"] > 0


def embed(server: EmulatorServer, texts: list[str], *, dead_letters: bool = False) -> None:
    """Runs the stage over texts, and looks that each comes out."""
    stage = EmbedRows(gemini(server))
    with local() as pipeline:
        rows = pipeline | beam.Create([{"text": text} for text in texts])
        good = (rows | stage.with_exception_handling()).good if dead_letters else rows | stage
        assert_that(good, holds(sorted(texts), lambda row: row["text"]))


def test_without_a_second_output_a_bad_row_fails_the_pipeline_with_its_reason() -> None:
    with served() as server, pytest.raises(CallRejected, match="blank_text: the text is empty"):
        embed(server, [""])


@pytest.mark.parametrize("dead_letters", [True, False])
def test_a_service_that_rejects_the_job_fails_the_pipeline_and_makes_no_dead_letter(
    dead_letters: bool,
) -> None:
    with served(no_access=True) as server, pytest.raises(JobRejected):
        embed(server, TEXTS, dead_letters=dead_letters)


def test_a_pipeline_after_a_stopped_one_gets_a_new_engine() -> None:
    with served(rpd=50) as server:
        with pytest.raises(QuotaExceeded, match="the day's quota is spent"):
            embed(server, [f"text {n}" for n in range(100)])
        embed(server, ["a"])


def test_calls_are_full_and_several_are_in_flight() -> None:
    with served(latency_ms=150) as server:
        with local() as pipeline:
            rows = [{"text": f"text {n}"} for n in range(2_000)]
            out = (
                pipeline
                | beam.Create(rows, reshuffle=False)
                | EmbedRows(gemini(server, concurrency=8))
                | beam.combiners.Count.Globally()
            )
            assert_that(out, holds([2_000], int))
        stats = server.stats()
    assert stats["calls"] <= 24
    assert 4 <= stats["most_in_flight"] <= 8


def test_two_stages_share_one_quota(tmp_path: Path) -> None:
    limits = QuotaLimits(rpm=3_000)
    with served(rpm=3_000) as server:
        with local() as pipeline:
            for part in ("One", "Two"):
                rows = [{"text": f"{part} {n}"} for n in range(200)]
                created = pipeline | f"Create{part}" >> beam.Create(rows)
                _ = created | part >> EmbedRows(gemini(server, limits=limits))
        assert server.stats()["texts"] == 400
        assert server.stats()["answers_429"] == 0


@pytest.mark.parametrize(("gather_s", "calls"), [(None, 4), (5.0, 2)])
def test_unbounded_rows_keep_their_windows_and_may_wait_for_each_other(
    gather_s: float | None, calls: int
) -> None:
    stream = test_stream.TestStream()
    for second in (1, 12, 34):
        stream.add_elements([TimestampedValue({"text": f"at {second}"}, second)])
    stream.advance_watermark_to(60)
    stream.add_elements([TimestampedValue({"text": "at 75"}, 75)])
    stream.advance_watermark_to(95).advance_watermark_to_infinity()
    with served() as server:
        options = PipelineOptions(["--streaming"])
        with beam.Pipeline("BundleBasedDirectRunner", options) as pipeline:
            out = (
                pipeline
                | stream
                | beam.WindowInto(FixedWindows(30))
                | EmbedRows(gemini(server), gather_s=gather_s)
                | beam.Map(_when)
            )
            expected = [("at 1", 1, 30), ("at 12", 12, 30), ("at 34", 34, 60), ("at 75", 75, 90)]
            assert_that(out, holds(expected, tuple))
        assert server.stats()["calls"] == calls


def _when(
    row: dict[str, Any],
    timestamp: Any = beam.DoFn.TimestampParam,
    window: Any = beam.DoFn.WindowParam,
) -> tuple[str, int, int]:
    assert len(row["vector"]) == DIM
    return row["text"], int(timestamp), int(window.end)


def _reason(letter: DeadLetter) -> str:
    return repr((letter.code, letter.element["text"], letter.http_status))
