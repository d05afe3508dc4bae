"""What `bulkembed verify` found, as lines for people and as JSON."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable
from typing import Any

from schemas.findings import Check, Finding
from schemas.stop import ExitCode

FORMAT_VERSION = 1
SHOWN_A_CHECK = 20
"""Findings of one kind that are shown to people; JSON has all."""

OF_UNITS = frozenset(Check) - {Check.UNFINISHED, Check.STRANGER, Check.ID, Check.INPUT}
CURE = (
    "`bulkembed verify --repair OUT` moves what is damaged aside, and the same command as before "
    "embeds these rows again"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
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


def report_lines(report: Report) -> Iterable[tuple[str, str]]:
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
