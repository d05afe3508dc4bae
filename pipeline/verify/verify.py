"""Check every file of a dataset, and report what is wrong."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from bulkembed.pipeline.run.request import RunRequest
from bulkembed.pipeline.verify.comparison import check_input, check_sample, draw
from bulkembed.pipeline.verify.folder_check import (
    duplicate_ids,
    foreign_files,
    manifest_problems,
    read_state,
    unfinished,
)
from bulkembed.pipeline.verify.source_units import input_media
from bulkembed.pipeline.verify.sync_comparison import check_synced_input, draw_synced
from bulkembed.pipeline.verify.unit_check import Expected, UnitReport, check_unit
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.errors import OutputError, OutputLocked
from bulkembed.schemas.findings import Check, Finding
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.stop import ExitCode
from bulkembed.schemas.units import GroupRecord, UnitRecord
from bulkembed.transforms.core.file_names import readable_name
from bulkembed.transforms.dataset import output_lock, part_files, run_file
from bulkembed.transforms.dataset.array_imports import import_pandas_first
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.duplicate_ids import DuplicateIds
from bulkembed.transforms.dataset.records import DatasetState, RecordParts

FORMAT_VERSION = 1
READ_THREADS = min(4, os.cpu_count() or 1)
"""Parts to read at once; each holds a block in memory."""
SHOWN_PER_CHECK = 20
"""Findings of one kind that the table shows; JSON has all of them."""
OF_UNITS = frozenset(Check) - {
    Check.UNFINISHED, Check.FOREIGN, Check.MANIFEST, Check.ID, Check.INPUT,
}  # fmt: skip
"""Kinds of findings about the files of a unit."""
CURE = (
    "Run `bulkembed verify --repair OUT` to move damaged files aside, then rerun the command that "
    "made the dataset to embed their rows again."
)


@dataclasses.dataclass(frozen=True, slots=True)
class VerifyReport:
    """The findings about a dataset, and what was checked."""

    output: str
    findings: tuple[Finding, ...]
    vectors: int
    """Vectors that were read."""
    dead_letters: int
    units: int
    beside: dict[str, str]
    """Further checks by name, each with its result in a few words."""
    seconds: float

    @property
    def exit_code(self) -> ExitCode:
        """0 if there are no findings."""
        return ExitCode.FAILED if self.findings else ExitCode.COMPLETE

    def shown(self) -> list[Finding]:
        """Return the findings for the table: the first few of each kind."""
        seen: collections.Counter[str] = collections.Counter()
        shown = []
        for finding in self.findings:
            seen[finding.check] += 1
            if seen[finding.check] <= SHOWN_PER_CHECK:
                shown.append(finding)
        return shown

    def to_json(self) -> dict[str, Any]:
        """Return plain values, with the exit code."""
        return {
            "format_version": FORMAT_VERSION,
            **dataclasses.asdict(self),
            "exit_code": int(self.exit_code),
        }


def report_lines(report: VerifyReport) -> Iterable[tuple[str, str]]:
    """Yield the summary as pairs of a name and a text."""
    yield "dataset", report.output
    vectors = number_of(report.vectors, "vector")
    dead_letters = number_of(report.dead_letters, "dead letter")
    units = number_of(report.units, "unit")
    yield "read", f"{vectors} and {dead_letters} in {units}, {report.seconds:,.1f} s"
    yield from report.beside.items()
    if not report.findings:
        yield "result", "no problems found"
        return
    kinds = collections.Counter(str(finding.check) for finding in report.findings)
    yield "problems", ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
    if any(finding.check in OF_UNITS for finding in report.findings):
        yield "fix", CURE


@dataclasses.dataclass(frozen=True, slots=True)
class VerifyRequest:
    """The dataset, and what to check besides its files."""

    output: str
    made_by: RunRequest | None = None
    """The run that made it, with the input and the service to compare with."""
    against_input: bool = False
    """Whether to check that the dataset has each row of the input."""
    sample: int = 0
    """How many rows to embed again."""
    unique_ids: bool = True


def verify(request: VerifyRequest) -> VerifyReport:
    """Check every file of a dataset. Nothing is changed.

    Raises:
        ConfigError: there is no dataset, the input is missing, or the service is another one.
        OutputLocked: a run is writing the dataset.
        OutputError: the folder cannot be read, or `run.json` is damaged.
    """
    started = time.monotonic()
    dataset = Dataset.open(request.output)
    import_pandas_first()
    pinned = run_file.read(dataset)
    owner = output_lock.current_owner(dataset)
    if owner is not None:
        raise OutputLocked(
            f"{request.output}: run {owner.run_id} is writing it. Wait until it ends."
        )
    state, findings = read_state(dataset)
    ids = DuplicateIds(rows=sum(record.unit.rows for record in state.records))
    units = _check_units(dataset, pinned, state, ids)
    findings += [finding for unit in units for finding in unit.findings]
    findings += unfinished(dataset, state, synced=run_file.is_synced(pinned))
    damaged = [finding.where for finding in findings if finding.check is Check.RECORD]
    named = [*_named(dataset, state, units)]
    lacks_records = any(one.check in (Check.RECORD, Check.UNFINISHED) for one in findings)
    findings += manifest_problems(dataset, None if lacks_records else named)
    findings += foreign_files(dataset, state, named, damaged)
    records = [record for unit in units for record in unit.units]
    intact = [unit for unit in units if not unit.findings]
    beside = {}
    for name, result, more in _further_checks(request, dataset, pinned, records, intact, ids):
        beside[name] = result
        findings += more
    return VerifyReport(
        output=request.output,
        findings=tuple(findings),
        vectors=sum(unit.vectors for unit in units),
        dead_letters=sum(unit.dead_letters for unit in units),
        units=len(state.records),
        beside=beside,
        seconds=time.monotonic() - started,
    )


def _check_units(
    dataset: Dataset, pinned: dict[str, Any], state: DatasetState, ids: DuplicateIds
) -> list[UnitReport]:
    expected = expected_of(dataset, pinned, state)
    with concurrent.futures.ThreadPoolExecutor(READ_THREADS) as pool:
        records = state.parts_records()
        return list(pool.map(lambda r: check_unit(dataset, expected, r, ids), records))


def expected_of(dataset: Dataset, pinned: dict[str, Any], state: DatasetState) -> Expected:
    """Return the expected parts of a dataset."""
    return Expected.of(pinned, pinned["embedding"]["dim"] or _first_dim(dataset, state))


def _first_dim(dataset: Dataset, state: DatasetState) -> int:
    """Return the dimensions that the first readable part has, for a model not in the registry."""
    for parts in dataset.distinct_parts(state):
        for name in parts.vectors:
            try:
                metadata = part_files.open_part(dataset, name).schema_arrow.metadata or {}
                return int(metadata[b"bulkembed.dim"])
            except (OutputError, KeyError, ValueError):
                continue
    return 0


def _named(dataset: Dataset, state: DatasetState, units: Sequence[UnitReport]) -> Iterator[str]:
    """Yield the parts that records name. The parts of a damaged record follow from its name."""
    for record, unit in zip(state.parts_records(), units, strict=True):
        if unit.record is not None:
            yield from RecordParts.of(unit.record).all
        elif isinstance(record, GroupRecord) or not (record.generation or record.is_partitioned):
            yield from dataset.parts_of(record).all


def _further_checks(
    request: VerifyRequest,
    dataset: Dataset,
    pinned: dict[str, Any],
    records: Sequence[UnitRecord],
    intact: Sequence[UnitReport],
    ids: DuplicateIds,
) -> Iterator[tuple[str, str, list[Finding]]]:
    """Yield the further checks: the name, the result in a few words, and the findings."""
    sound = [record for unit in intact for record in unit.units]
    whole = [unit.record for unit in intact if unit.record is not None]
    if not request.unique_ids:
        yield "ids", "not compared (--repeated-ids)", []
    else:
        yield "ids", "compared with each other", list(duplicate_ids(dataset, records, ids))
    made_by, is_synced = request.made_by, run_file.is_synced(pinned)
    if made_by is None:
        return
    embedding, wanted = EmbeddingConfig.from_facts(pinned["embedding"]), made_by.input
    with input_media(wanted, embedding) as media:
        if request.against_input:
            if is_synced:
                found = list(check_synced_input(dataset, wanted, embedding, whole))
            else:
                found = list(check_input(dataset, wanted, embedding, records, sound, media))
            patterns = ", ".join(map(readable_name, wanted.patterns))
            yield "input", f"compared with {patterns} row by row", found
        if request.sample:
            if is_synced:
                sampled = draw_synced(dataset, wanted, whole, request.sample, media)
            else:
                sampled = draw(dataset, wanted, sound, request.sample, media)
            yield "sample", *check_sample(pinned, made_by, embedding, sampled, media)
