"""What one `bulkembed run` is asked to do, after flags, environment and file are put together."""

from __future__ import annotations

import dataclasses
import os
import re

from bulkembed.schemas.embedding import BlankText, EmbeddingConfig, ServiceConfig
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.inputs import InputColumns
from bulkembed.schemas.job import CallSettings, Dedupe, OutputConfig
from bulkembed.schemas.prices import Budget, price_of


@dataclasses.dataclass(frozen=True, slots=True)
class DeadLetterBudget:
    """A number of rows, or a part of those that are planned, and a least number."""

    rows: int | None = None
    percent: float | None = None
    at_least: int = 0

    def allowed(self, planned_rows: int) -> int:
        """The most rows that may be given up on; blank ones are not counted."""
        if self.rows is not None:
            return self.rows
        return max(self.at_least, self._part(planned_rows))

    def allowed_in_failed_files(self, planned_rows: int) -> int:
        """Return the most rows of files without one embedded row: `at_least` does not cover them.

        A file that fails as a whole is not what the run takes it for, however few rows it has.
        """
        return self._part(planned_rows) if self.rows is None else self.rows

    def _part(self, planned_rows: int) -> int:
        return int(planned_rows * (self.percent or 0.0) / 100)


DEFAULT_BUDGET = DeadLetterBudget(percent=1.0, at_least=10)


def parse_budget(text: str | None) -> DeadLetterBudget:
    """The budget that `25` or `0.5%` stands for; None for the default.

    Raises:
        ConfigError: it is neither.
    """
    if text is None:
        return DEFAULT_BUDGET
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", text.strip())
    if found and found.group(2) and float(found.group(1)) <= 100:
        return DeadLetterBudget(percent=float(found.group(1)))
    if found and not found.group(2) and found.group(1).isdigit():
        return DeadLetterBudget(rows=int(found.group(1)))
    raise ConfigError(f"--max-dead-letters {text}: give a number of rows, or a part such as 0.5%")


LOCAL_RUNNER = "FnApiRunner"
"""Beam's engine in this process.  `DirectRunner` first tries to download a binary."""
WORKER_FLAGS = ("--runner", "--direct_num_workers", "--direct_running_mode")
"""Beam's flags that `--workers` stands for."""


@dataclasses.dataclass(frozen=True, slots=True)
class InputRequest:
    """Which rows."""

    patterns: tuple[str, ...]
    columns: InputColumns
    format: str | None = None
    skip_bad_files: bool = False
    rescan: bool = False
    tables_as_files: bool = False
    """Whether files of a Delta, Hudi or Iceberg table are read without its log."""
    """Read each file, also those whose size and time are those of an earlier scan."""
    limit_rows: int | None = None
    blank_text: BlankText = BlankText.SKIP


@dataclasses.dataclass(frozen=True, slots=True)
class RunRequest:
    """All of it.  `settings` are the options as people see them; none of them is a secret."""

    input: InputRequest
    embedding: EmbeddingConfig
    service: ServiceConfig
    calls: CallSettings
    output: OutputConfig
    unit_rows: int = 2500
    dedupe: Dedupe = Dedupe.RUN
    dead_letters: DeadLetterBudget = DEFAULT_BUDGET
    max_cost_usd: float | None = None
    """What the dataset may cost, all of its runs together."""
    usd_per_mtok: float | None = None
    """Price of a million tokens; None for Google's list price."""
    overwrite: bool = False
    """Start anew: what stands at the output goes, once all checks have passed."""
    prune: bool = False
    """Remove the rows of input files that are gone."""
    retry_failed: bool = False
    """Do only the rows that were given up on."""
    max_runtime_s: float | None = None
    workers: int = 1
    """Processes of this machine that share the work."""
    runner: str | None = None
    beam_args: tuple[str, ...] = ()
    settings: dict[str, object] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.unit_rows < 1:
            raise ConfigError(f"--unit-rows {self.unit_rows}: give a number from 1")
        if self.overwrite and self.retry_failed:
            raise ConfigError("--overwrite leaves no dead letters for --retry-failed: drop one")
        if self.input.limit_rows is not None and self.input.limit_rows < 1:
            raise ConfigError(f"--limit-rows {self.input.limit_rows}: give a number from 1")
        self.budget()
        self._check_workers()

    def budget(self) -> Budget | None:
        """What the dataset may cost; None for any sum.

        Raises:
            ConfigError: nobody knows what a token costs.
        """
        if self.max_cost_usd is None:
            return None
        price = price_of(self.service.identity, self.embedding.model, self.usd_per_mtok)
        if price is None:
            raise ConfigError(
                f"--max-cost-usd {self.max_cost_usd:g}: the price of {self.embedding.model} on "
                f"{self.service.identity} is not known; add --price-usd-per-mtok, the USD that it "
                "takes for a million tokens"
            )
        return Budget(self.max_cost_usd, price.online) if price.online else None

    def _check_workers(self) -> None:
        """Raises ConfigError where so many workers make no sense, or others are asked for too."""
        given = f"--workers {self.workers}"
        most = max(2, os.cpu_count() or 1)
        if not 1 <= self.workers <= most:
            raise ConfigError(f"{given}: give 1 to {most}; more than cores only cost memory")
        if self.workers == 1:
            return
        if self.runner not in (None, LOCAL_RUNNER):
            raise ConfigError(
                f"{given}: --runner {self.runner} has workers of its own; leave one of them out, "
                "and say how many by that runner's flags after --"
            )
        names = {flag.split("=")[0] for flag in self.beam_args}
        clash = next((name for name in WORKER_FLAGS if name in names), None)
        if clash:
            raise ConfigError(f"{given} and {clash} after -- both say it: leave one of them out")
        if self.workers > self.calls.concurrency:
            raise ConfigError(
                f"{given}: --concurrency {self.calls.concurrency} leaves some without a call"
            )
