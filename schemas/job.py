"""The configuration of a worker: service, embedding, calls, rows and output."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING

from bulkembed.schemas.embedding import BlankText, EmbeddingConfig, ServiceConfig
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.fetch_settings import FetchSettings
from bulkembed.schemas.inputs import InputColumns
from bulkembed.schemas.models import MAX_TEXTS
from bulkembed.schemas.prices import Budget
from bulkembed.schemas.quota import QuotaLimits

if TYPE_CHECKING:
    import pyarrow as pa


class VectorType(enum.StrEnum):
    """The type of the elements of a vector in the output."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


class VectorEncoding(enum.StrEnum):
    """How Parquet writes the elements of a vector."""

    PLAIN = "plain"
    """Every reader supports it."""
    BYTE_STREAM_SPLIT = "byte_stream_split"
    """15 % smaller. Spark before 4.3 cannot read it."""


class Dedupe(enum.StrEnum):
    """The rows among which a duplicate text is sent once."""

    RUN = "run"
    """All rows of the input and all committed rows."""
    UNIT = "unit"
    """The rows of one unit, or of small units that are committed as one group."""
    OFF = "off"
    """No deduplication: each row is sent."""


@dataclasses.dataclass(frozen=True, slots=True)
class CallSettings:
    """How requests are sent."""

    limits: QuotaLimits = dataclasses.field(default_factory=QuotaLimits)
    concurrency: int = 16
    retry_timeout_s: float = 600.0
    """How long a request is retried, from its first failure."""
    shutdown_timeout_s: float = 20.0
    """How long requests in flight may take after the run was asked to stop."""
    texts: int = MAX_TEXTS
    """The maximum texts in one request; see `EmbedderConfig.call_texts`."""
    quota_name: str | None = None
    """Runs with the same name share a quota; without a name, runs of the same project or key do."""
    rate_service: str | None = None
    """host:port of an Envoy rate limit service, used in addition to the quota here."""

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ConfigError(f"--concurrency {self.concurrency}: use a number from 1")
        if self.retry_timeout_s <= 0 or self.shutdown_timeout_s < 0:
            raise ConfigError(
                "--retry-timeout and --shutdown-timeout: use a duration such as 30s or 10m"
            )
        host, _, port = (self.rate_service or "host:1").rpartition(":")
        if not host or "@" in host or not (port.isdecimal() and 0 < int(port) < 1 << 16):
            raise ConfigError("--rate-limit-service must be HOST:PORT, with a port from 1 to 65535")


@dataclasses.dataclass(frozen=True, slots=True)
class EmbedderConfig:
    """Which vectors, from which service, and how fast. Can be pickled; does not hold the key."""

    service: ServiceConfig
    embedding: EmbeddingConfig
    calls: CallSettings

    @property
    def call_texts(self) -> int:
        """The maximum texts in one request, within the model's limit."""
        return min(self.calls.texts, self.embedding.spec.max_texts)


@dataclasses.dataclass(frozen=True, slots=True)
class OutputConfig:
    """Where the dataset is and how its vectors are written."""

    uri: str
    vector_type: VectorType = VectorType.FLOAT32
    vector_encoding: VectorEncoding = VectorEncoding.PLAIN
    provenance: bool = False
    """Whether each row says which run wrote it, and when."""
    partition_by: str | None = None
    """The kept column by whose values the vectors are in folders; None: in one folder."""


@dataclasses.dataclass(frozen=True, slots=True)
class ProcessId:
    """A process number with the scope in which it is unique.

    Containers share the host's name and reuse process numbers. So a number identifies a process
    only within one boot of the machine and one process namespace.
    """

    pid: int
    boot: str = ""
    """The boot id of the machine; empty if unknown."""
    namespace: str = ""
    """The process namespace; empty if unknown."""
    started: int = 0
    """Clock ticks from the boot to the start of the process; 0 if unknown."""


@dataclasses.dataclass(frozen=True, slots=True)
class RunStamp:
    """What a run writes into the commit records and parts that it makes of existing rows."""

    run_id: str
    run_number: int
    embedding_digest: str
    vector_encoding: VectorEncoding = VectorEncoding.PLAIN


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class JobConfig:
    """All settings of one run. They can be pickled, and do not hold the key.

    `row_schema` is the type of `id` and of the kept columns over all input files.
    """

    run_id: str
    service: ServiceConfig
    embedding: EmbeddingConfig
    calls: CallSettings
    columns: InputColumns
    row_schema: pa.Schema
    output: OutputConfig
    fetch: FetchSettings = dataclasses.field(default_factory=FetchSettings)
    media_root: tuple[str, str] | None = None
    """The store and the path of the folder that relative paths of media are in; None: the folder of
    the input file."""
    reuse: tuple[str, ...] = ()
    """Other datasets in which contents with media are looked up, once their files are read."""
    blank_text: BlankText = BlankText.SKIP
    skip_bad_files: bool = False
    """Whether a damaged file is skipped and noted."""
    dedupe: Dedupe = Dedupe.RUN
    unit_rows: int = 2500
    """The maximum rows of a unit, and of small units that are committed as one group."""
    batch: bool = False
    """Whether batch jobs have been asked for vectors, and may have rejected texts."""
    sends_online: bool = True
    """Whether texts without a known vector are sent; if not, their units are not committed."""
    sync: bool = False
    """Whether the dataset mirrors its input by id."""
    max_dead_rows: int | None = None
    """How many rows may fail in this run, not counting blank ones; None: any number."""
    account: str | None = None
    """The file with the cost of the dataset; None if the workers share no file."""
    budget: Budget | None = None
    """How much it may cost; None: no limit."""
    launcher: ProcessId | None = None
    """The launcher; workers that can see its process stop when it ends."""
    version: str = ""
    run_number: int = 0
    """The number of the run that holds the dataset; it only grows. 0: no run holds the dataset."""
    pinned_digest: str = ""
    """The embedding digest pinned for the dataset; empty if the run does not hold it."""
    unstamped_run: str | None = None
    """The last run of an older version, whose kept answers do not name their settings; None if no
    such run has written to the dataset."""

    @property
    def embedder(self) -> EmbedderConfig:
        """The settings about vectors, without those about files."""
        return EmbedderConfig(self.service, self.embedding, self.calls)

    @property
    def digest(self) -> str:
        """The embedding digest of what the run keeps and commits.

        The version that pinned the facts has computed it.
        """
        return self.pinned_digest or self.embedding.digest

    @property
    def stamp(self) -> RunStamp:
        """The stamp of the run."""
        return RunStamp(self.run_id, self.run_number, self.digest, self.output.vector_encoding)

    def layout_facts(self) -> dict[str, object]:
        """The facts that two runs must share for their parts to have one schema."""
        return {
            "id_type": str(self.row_schema.field("id").type),
            "kept": {f.name: str(f.type) for f in self.row_schema if f.name != "id"},
            "vector_type": str(self.output.vector_type),
            "vector_encoding": str(self.output.vector_encoding),
            "id_column": self.columns.id_column,
            "text": self.columns.text_column
            or self.columns.text_template
            or [str(part) for part in self.columns.content],
            "title_column": self.columns.title_column,
            **({"id_name": self.columns.id_name} if self.columns.id_name != "id" else {}),
            **({"rows": "passages"} if self.embedding.rows_are_passages else {}),
            **({"sync": "id"} if self.sync else {}),
            **({"media": True} if self.columns.content else {}),
            **({"provenance": True} if self.output.provenance else {}),
            **({"partition_by": self.output.partition_by} if self.output.partition_by else {}),
        }
