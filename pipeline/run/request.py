"""The request of one `bulkembed run`, merged from flags, environment and configuration file."""

from __future__ import annotations

import dataclasses
import enum
import os

from bulkembed.pipeline.run.delete_guard import DEFAULT_DELETE_LIMIT
from bulkembed.pipeline.run.row_amount import RowAmount, parse_amount
from bulkembed.schemas.batch import BatchConfig, Mode
from bulkembed.schemas.embedding import BlankText, EmbeddingConfig, ServiceConfig
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.fetch_settings import FetchSettings
from bulkembed.schemas.inputs import InputColumns
from bulkembed.schemas.job import CallSettings, Dedupe, OutputConfig
from bulkembed.schemas.prices import Budget, Price, price_of


@dataclasses.dataclass(frozen=True, slots=True)
class DeadLetterBudget:
    """How many rows may fail: an amount of the planned rows, and a minimum."""

    limit: RowAmount
    at_least: int = 0

    def allowed(self, planned_rows: int) -> int:
        """Return how many rows may fail; blank ones are not counted."""
        return max(self.at_least, self.limit.of(planned_rows))

    def allowed_in_failed_files(self, planned_rows: int) -> int:
        """Return how many rows may fail in files without any embedded row; ignores `at_least`.

        A file in which all rows fail is probably not what the user meant, however small it is.
        """
        return self.limit.of(planned_rows)


DEFAULT_BUDGET = DeadLetterBudget(RowAmount(percent=1.0), at_least=10)


def parse_budget(text: str | None) -> DeadLetterBudget:
    """Parse a budget such as `25` or `0.5%`; None stands for the default.

    Raises:
        ConfigError: the text is neither.
    """
    if text is None:
        return DEFAULT_BUDGET
    return DeadLetterBudget(parse_amount("--max-dead-letters", text, "0.5%"))


DEFAULT_KEEP_CHANGES = 365
LOCAL_RUNNER = "FnApiRunner"
"""Beam's runner in this process. `DirectRunner` first tries to download a binary."""
WORKER_FLAGS = ("--runner", "--direct_num_workers", "--direct_running_mode")
"""Beam's flags that `--workers` sets."""


class MissingFiles(enum.StrEnum):
    """What a run does if committed rows are of input files that are missing now."""

    STOP = "stop"
    """Keep the rows, but stop if their ids are in files that are not embedded yet."""
    KEEP = "keep"
    """Keep the rows, whatever the ids in other files are."""


class UniqueIds(enum.StrEnum):
    """What `--sync` does if several rows of the input have one id."""

    ERROR = "error"
    LAST = "last"
    """Take the last of them, in the order of the files and their rows."""


class SyncOn(enum.StrEnum):
    """Where `--sync` compares and removes rows, if the run has a cluster."""

    AUTO = "auto"
    """On the workers, if there is so much to do that starting another job is worth it."""
    LAUNCHER = "launcher"
    WORKERS = "workers"


@dataclasses.dataclass(frozen=True, slots=True)
class InputRequest:
    """Which rows to embed."""

    patterns: tuple[str, ...]
    columns: InputColumns
    format: str | None = None
    skip_bad_files: bool = False
    rescan: bool = False
    """Scan each file, even if its size and time are those of an earlier scan."""
    tables_as_files: bool = False
    """Whether files of a Delta, Hudi or Iceberg table are read without its log."""
    limit_rows: int | None = None
    blank_text: BlankText = BlankText.SKIP
    media_root: str | None = None
    """The folder of relative paths in media columns; None: that of the input file."""
    fetch: FetchSettings = dataclasses.field(default_factory=FetchSettings)


@dataclasses.dataclass(frozen=True, slots=True)
class RunRequest:
    """All options of a run; `settings` has them as the user gave them, without any secret."""

    input: InputRequest
    embedding: EmbeddingConfig
    service: ServiceConfig
    calls: CallSettings
    output: OutputConfig
    unit_rows: int = 2500
    dedupe: Dedupe = Dedupe.RUN
    reuse: tuple[str, ...] = ()
    """Other datasets whose vectors are taken, in order of preference."""
    dead_letters: DeadLetterBudget = DEFAULT_BUDGET
    max_cost_usd: float | None = None
    """Maximum cost of the dataset, over all of its runs."""
    usd_per_mtok: float | None = None
    """Price of a million tokens; None for Google's list price."""
    overwrite: bool = False
    """Delete the existing dataset and start over, once all checks have passed."""
    sync: bool = False
    """Make the dataset equal to the input, row by row, by id."""
    unique_ids: UniqueIds = UniqueIds.ERROR
    sync_on: SyncOn = SyncOn.AUTO
    prune: bool = False
    """Remove the rows of input files that were deleted."""
    max_delete: RowAmount = DEFAULT_DELETE_LIMIT
    """How many rows the run may delete."""
    missing_files: MissingFiles = MissingFiles.STOP
    target_file_size: int | None = None
    """Maximum bytes of a merged part; None: parts are not merged."""
    keep_superseded: bool = False
    """Keep the parts that the run supersedes until another run is complete."""
    keep_changes: int = DEFAULT_KEEP_CHANGES
    """For how many days lists of changes are kept; that of the last run always is."""
    retry_failed: bool = False
    """Retry dead-lettered rows only."""
    mode: Mode = Mode.ONLINE
    batch: BatchConfig = dataclasses.field(default_factory=BatchConfig)
    max_runtime_s: float | None = None
    workers: int = 1
    """Processes of this machine that share the work."""
    runner: str | None = None
    beam_args: tuple[str, ...] = ()
    settings: dict[str, object] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.unit_rows < 1:
            raise ConfigError(f"--unit-rows {self.unit_rows} is too low. The minimum is 1.")
        if self.overwrite and self.retry_failed:
            raise ConfigError(
                "--overwrite deletes the dead letters that --retry-failed needs. "
                "Remove one of them."
            )
        if self.prune and self.missing_files is MissingFiles.KEEP:
            raise ConfigError(
                "--prune deletes the rows of missing files, and --missing-files keep keeps them. "
                "Remove one of them."
            )
        if self.input.limit_rows is not None and self.input.limit_rows < 1:
            raise ConfigError(f"--limit-rows {self.input.limit_rows} is too low. The minimum is 1.")
        if self.reuse and self.dedupe is not Dedupe.RUN:
            raise ConfigError(
                f"--reuse needs --dedupe run, because --dedupe {self.dedupe} takes no vector of an "
                "earlier run. Remove one of them."
            )
        if self.sync:
            self._check_sync()
        self._check_batch()
        self.budget()
        self._check_workers()

    def budget(self) -> Budget | None:
        """Return the maximum cost of the dataset; None for no limit.

        Raises:
            ConfigError: the price of a token is not known.
        """
        if self.max_cost_usd is None:
            return None
        price = self.price()
        if price is None:
            raise ConfigError(
                f"--max-cost-usd {self.max_cost_usd:g}: the price of {self.embedding.model} on "
                f"{self.service.identity} is not known. Set --price-usd-per-mtok to its price in "
                "USD per million tokens."
            )
        return Budget(self.max_cost_usd, price.online) if price.online else None

    def price(self) -> Price | None:
        """Return the price of a token; None if it is not known."""
        service, factor = self.service.identity, self.batch.price_factor
        return price_of(service, self.embedding.model, self.usd_per_mtok, factor)

    def _check_batch(self) -> None:
        """Raise ConfigError if the options of batch jobs contradict others."""
        if self.batch.max_wait_s is not None and self.mode is not Mode.AUTO:
            raise ConfigError("--batch-max-wait needs --mode auto. Change one of them.")
        if not self.mode.uses_batch:
            self.batch.check_unused()
            return
        self.batch.check_service(self.service, self.embedding)
        if self.dedupe is not Dedupe.RUN:
            raise ConfigError(
                f"--mode batch sends each text once and finds its answer by the text's hash, which "
                f"--dedupe {self.dedupe} excludes. Remove --dedupe."
            )
        if self.retry_failed:
            raise ConfigError(
                "--retry-failed cannot be combined with --mode batch. Use --mode online, which "
                "answers a few rows at once."
            )

    def _check_sync(self) -> None:
        """Raise ConfigError if another option contradicts `--sync`."""
        deletes = "--sync deletes the rows that the input lacks"
        for given, why in (
            (self.input.columns.id_column is None and "--generate-ids",
             "made ids name files and rows, and not what is in them. Name a column with "
             "--id-column."),
            (self.prune and "--prune", f"{deletes} anyway. Remove --prune."),
            (self.missing_files is MissingFiles.KEEP and "--missing-files keep",
             f"{deletes}, in whatever files they were. Remove --missing-files."),
            (self.input.limit_rows is not None and "--limit-rows",
             f"{deletes}. For a trial, use another --output without --sync."),
            (self.input.skip_bad_files and "--skip-bad-files",
             f"{deletes}, and would delete those of a skipped file. Remove --skip-bad-files."),
            (self.dedupe is not Dedupe.RUN and f"--dedupe {self.dedupe}",
             "rows of which only kept columns change take the vectors of the dataset. Remove "
             "--dedupe."),
        ):  # fmt: skip
            if given:
                raise ConfigError(f"{given} cannot be combined with --sync: {why}")

    def _check_workers(self) -> None:
        """Raise ConfigError if `--workers` is out of range or conflicts with another flag."""
        given = f"--workers {self.workers}"
        highest = max(2, os.cpu_count() or 1)
        if not 1 <= self.workers <= highest:
            raise ConfigError(
                f"{given} is out of range. Use 1 to {highest}: more workers than cores only use "
                "more memory."
            )
        if self.workers == 1:
            return
        if self.runner not in (None, LOCAL_RUNNER):
            raise ConfigError(
                f"{given} cannot be combined with --runner {self.runner}, which has its own "
                "workers. Set their number with that runner's flags after --."
            )
        names = {flag.split("=")[0] for flag in self.beam_args}
        clash = next((name for name in WORKER_FLAGS if name in names), None)
        if clash:
            raise ConfigError(f"{given} and {clash} after -- set the same. Remove one of them.")
        if self.workers > self.calls.concurrency:
            raise ConfigError(
                f"{given} is more than --concurrency {self.calls.concurrency}, so some workers "
                "could not send any request. Raise --concurrency, or use fewer workers."
            )
