"""A dataset opened, every part of it read, and held against what it should be."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from bulkembed.pipeline.run.request import RunRequest
from bulkembed.pipeline.verify.comparison import check_input, check_sample
from bulkembed.pipeline.verify.folder_check import (
    read_state,
    repeated_ids,
    strangers,
    unfinished,
)
from bulkembed.pipeline.verify.unit_check import Expected, UnitReport, check_unit
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.errors import OutputError, OutputLocked
from bulkembed.schemas.findings import Check, Finding
from bulkembed.schemas.stop import ExitCode
from bulkembed.schemas.units import UnitRecord
from bulkembed.transforms.core.file_names import readable_name
from bulkembed.transforms.dataset import output_lock, part_files, run_file
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.duplicate_ids import MAX_IDS, DuplicateIds
from bulkembed.transforms.dataset.records import DatasetState, RecordParts

FORMAT_VERSION = 1
SHOWN_A_CHECK = 20
"""Findings of one kind that are shown to people; JSON has all."""

OF_UNITS = frozenset(Check) - {Check.UNFINISHED, Check.STRANGER, Check.ID, Check.INPUT}
CURE = (
    "`bulkembed verify --repair OUT` moves what is damaged aside, and the same command as before "
    "embeds these rows again"
)


@dataclasses.dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was looked at, and what is wrong with it."""

    output: str
    findings: tuple[Finding, ...]
    vectors: int
    """Rows of vectors that were read."""
    dead_letters: int
    units: int
    beside: dict[str, str]
    """What was looked at beside the parts themselves, and how."""
    seconds: float

    @property
    def exit_code(self) -> ExitCode:
        """0 where nothing is wrong."""
        return ExitCode.FAILED if self.findings else ExitCode.COMPLETE

    def shown(self) -> list[Finding]:
        """The findings that people see: of each kind the first few."""
        seen: collections.Counter[str] = collections.Counter()
        shown = []
        for finding in self.findings:
            seen[finding.check] += 1
            if seen[finding.check] <= SHOWN_A_CHECK:
                shown.append(finding)
        return shown

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the exit code."""
        return {
            "format_version": FORMAT_VERSION,
            **dataclasses.asdict(self),
            "exit_code": int(self.exit_code),
        }


def report_lines(report: VerifyReport) -> Iterable[tuple[str, str]]:
    """What was looked at and how it ends, a name and a text a line."""
    yield "dataset", report.output
    rows = f"{report.vectors:,} vectors and {report.dead_letters:,} dead letters"
    yield "read", f"{rows} in {report.units:,} units, {report.seconds:,.1f} s"
    yield from report.beside.items()
    if not report.findings:
        yield "verdict", "sound: nothing is wrong"
        return
    kinds = collections.Counter(str(finding.check) for finding in report.findings)
    yield "verdict", ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
    if any(finding.check in OF_UNITS for finding in report.findings):
        yield "cure", CURE


READ_THREADS = min(4, os.cpu_count() or 1)
"""Parts read at once; each holds a block in memory."""


@dataclasses.dataclass(frozen=True, slots=True)
class VerifyRequest:
    """What to look at beside the dataset itself."""

    output: str
    made_by: RunRequest | None = None
    """The run that made it, with the input and the service to hold it against; for the next two."""
    against_input: bool = False
    """Whether the dataset should hold each row of the input."""
    sample: int = 0
    """How many rows are to be embedded anew."""
    unique_ids: bool = True


def verify(request: VerifyRequest) -> VerifyReport:
    """Looks at every file of a dataset; changes nothing.

    Raises:
        ConfigError: there is no dataset, no such input, or another service.
        OutputLocked: a run is at work on it.
        OutputError: the folder cannot be read, or `run.json` is damaged.
    """
    started = time.monotonic()
    dataset = Dataset.open(request.output)
    pinned = run_file.read(dataset)
    owner = output_lock.current_owner(dataset)
    if owner is not None:
        raise OutputLocked(f"{request.output}: run {owner.run_id} is at work on it; wait for it")
    state, findings = read_state(dataset)
    ids = DuplicateIds()
    units = _check_units(dataset, pinned, state, ids)
    findings += [finding for unit in units for finding in unit.findings]
    findings += unfinished(dataset, state)
    findings += strangers(dataset, state, _named(dataset, state, units))
    records = [unit.record for unit in units if unit.record is not None]
    sound = [unit.record for unit in units if unit.record is not None and not unit.findings]
    beside = {}
    for what, how, more in _beside(request, dataset, pinned, records, sound, ids):
        beside[what] = how
        findings += more
    return VerifyReport(
        output=request.output,
        findings=tuple(findings),
        vectors=sum(unit.vectors for unit in units),
        dead_letters=sum(unit.dead_letters for unit in units),
        units=len(units),
        beside=beside,
        seconds=time.monotonic() - started,
    )


def _check_units(
    dataset: Dataset, pinned: dict[str, Any], state: DatasetState, ids: DuplicateIds
) -> list[UnitReport]:
    expected = expected_of(dataset, pinned, state)
    with concurrent.futures.ThreadPoolExecutor(READ_THREADS) as pool:
        return list(pool.map(lambda r: check_unit(dataset, expected, r, ids), state.records))


def expected_of(dataset: Dataset, pinned: dict[str, Any], state: DatasetState) -> Expected:
    """Return what the parts of a dataset must look like."""
    return Expected.of(pinned, pinned["embedding"]["dim"] or _first_dim(dataset, state))


def _first_dim(dataset: Dataset, state: DatasetState) -> int:
    """The dim of the first part that tells one: of a model that the registry does not know."""
    for record in state.records:
        for name in dataset.parts_of(record).vectors:
            try:
                metadata = part_files.open_part(dataset, name).schema_arrow.metadata or {}
                return int(metadata[b"bulkembed.dim"])
            except (OutputError, KeyError, ValueError):
                continue
    return 0


def _named(dataset: Dataset, state: DatasetState, units: Sequence[UnitReport]) -> Iterator[str]:
    """The parts that records name; those of a damaged record follow from its name."""
    for record, unit in zip(state.records, units, strict=True):
        if unit.record is not None:
            yield from RecordParts.of(unit.record).all
        elif not record.generation:
            yield from dataset.parts_of(record).all


def _beside(
    request: VerifyRequest,
    dataset: Dataset,
    pinned: dict[str, Any],
    records: Sequence[UnitRecord],
    sound: Sequence[UnitRecord],
    ids: DuplicateIds,
) -> Iterator[tuple[str, str, list[Finding]]]:
    """What is looked at beside the parts themselves, how, and what is found."""
    if not request.unique_ids:
        yield "ids", "may repeat: not compared", []
    elif sum(record.unit.rows for record in records) > MAX_IDS:
        yield "ids", f"more than {MAX_IDS:,}: not compared", []
    else:
        yield "ids", "compared with one another", list(repeated_ids(dataset, records, ids))
    if request.made_by is None:
        return
    if request.against_input:
        wanted = request.made_by.input
        embedding = EmbeddingConfig.from_facts(pinned["embedding"])
        found = list(check_input(dataset, wanted, embedding, records, sound))
        patterns = ", ".join(map(readable_name, wanted.patterns))
        yield "input", f"{patterns}: compared row by row", found
    if request.sample:
        how, found = check_sample(dataset, pinned, request.made_by, sound, request.sample)
        yield "sample", how, found
