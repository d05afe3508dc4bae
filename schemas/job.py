"""What a worker is told: the service, the embedding, the calls, the rows and the output."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING

from bulkembed.schemas.embedding import BlankText, EmbeddingConfig, ServiceConfig
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.inputs import InputColumns
from bulkembed.schemas.models import MAX_TEXTS
from bulkembed.schemas.prices import Budget
from bulkembed.schemas.quota import QuotaLimits

if TYPE_CHECKING:
    import pyarrow as pa


class VectorType(enum.StrEnum):
    """The numbers of a vector in the output."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


class VectorEncoding(enum.StrEnum):
    """How Parquet writes a vector's numbers."""

    PLAIN = "plain"
    """Every engine reads it."""
    BYTE_STREAM_SPLIT = "byte_stream_split"
    """15 % smaller; Spark cannot read it."""


class Dedupe(enum.StrEnum):
    """Among which rows a text that occurs several times is sent once."""

    RUN = "run"
    """All rows of the input, those that are committed already with them."""
    UNIT = "unit"
    """The rows that are committed together."""
    OFF = "off"
    """None: each row is sent."""


@dataclasses.dataclass(frozen=True, slots=True)
class CallSettings:
    """How calls are sent."""

    limits: QuotaLimits = dataclasses.field(default_factory=QuotaLimits)
    concurrency: int = 16
    retry_timeout_s: float = 600.0
    """How long one call is tried again, from its first failure on."""
    shutdown_timeout_s: float = 20.0
    """How long calls in the air may take to come back once the run is to end."""
    texts: int = MAX_TEXTS
    """The most texts in one call; see `EmbedderConfig.call_texts`."""
    quota_name: str | None = None
    """Runs of one name share one quota; without it those of one project or key do."""
    rate_service: str | None = None
    """host:port of an Envoy rate limit service, asked on top of the mirror."""

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ConfigError(f"--concurrency {self.concurrency}: give a number from 1")
        if self.retry_timeout_s <= 0 or self.shutdown_timeout_s < 0:
            raise ConfigError(
                "--retry-timeout and --shutdown-timeout: give a time, such as 30s or 10m"
            )
        host, _, port = (self.rate_service or "host:1").rpartition(":")
        if not host or "@" in host or not (port.isdecimal() and 0 < int(port) < 1 << 16):
            raise ConfigError(
                "--rate-limit-service takes HOST:PORT, with a port from 1 to 65535 and nothing else"
            )


@dataclasses.dataclass(frozen=True, slots=True)
class EmbedderConfig:
    """Which vectors, from which service, and how fast.  Pickles; holds no key."""

    service: ServiceConfig
    embedding: EmbeddingConfig
    calls: CallSettings

    @property
    def call_texts(self) -> int:
        """The most texts in one call, within what the model takes."""
        return min(self.calls.texts, self.embedding.spec.max_texts)


@dataclasses.dataclass(frozen=True, slots=True)
class OutputConfig:
    """Where the dataset is and how its vectors are written."""

    uri: str
    vector_type: VectorType = VectorType.FLOAT32
    vector_encoding: VectorEncoding = VectorEncoding.PLAIN


@dataclasses.dataclass(frozen=True, slots=True)
class ProcessId:
    """A process number, and where it means something.

    Containers share the host's name and reuse its numbers: a number is only believed within one
    boot of the machine and one namespace of process numbers.
    """

    pid: int
    boot: str = ""
    """Of the machine since it was started; "" where it is not known."""
    namespace: str = ""
    """Of the process numbers; "" where it is not known."""
    started: int = 0
    """Clock ticks from the boot to the start of the process; 0 where they are not known."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class JobConfig:
    """All of the above for one run.  Pickles; holds no key.

    `row_schema` is the type of `id` and of the kept columns over all input files.
    """

    run_id: str
    service: ServiceConfig
    embedding: EmbeddingConfig
    calls: CallSettings
    columns: InputColumns
    row_schema: pa.Schema
    output: OutputConfig
    blank_text: BlankText = BlankText.SKIP
    skip_bad_files: bool = False
    """Whether a file that cannot be read to its end is passed over, and noted."""
    dedupe: Dedupe = Dedupe.RUN
    max_dead_rows: int | None = None
    """Rows that may be given up on in this run, blank ones not counted; None: any number."""
    account: str | None = None
    """The file that says what the dataset has cost; None where the workers have none in common."""
    budget: Budget | None = None
    """What it may cost; None for any sum."""
    launcher: ProcessId | None = None
    """The launcher: workers that can see its process end when it is gone."""
    version: str = ""
    run_number: int = 0
    """Of the run that holds the dataset, larger than that of each run before it; 0: none does."""
    pinned_digest: str = ""
    """The embedding digest that is pinned for the dataset; empty where the run has not taken it."""
    unstamped_run: str | None = None
    """The last run of an older version, whose kept answers do not say of which settings they are;
    None: none has written to this dataset."""

    @property
    def embedder(self) -> EmbedderConfig:
        """The part that is about vectors, not about files."""
        return EmbedderConfig(self.service, self.embedding, self.calls)

    @property
    def digest(self) -> str:
        """The embedding digest of what the run keeps and commits.

        Of the facts that are pinned, it was made by the version that pinned them.
        """
        return self.pinned_digest or self.embedding.digest

    def layout_facts(self) -> dict[str, object]:
        """What two runs must have in common for their parts to have one schema."""
        return {
            "id_type": str(self.row_schema.field("id").type),
            "kept": {f.name: str(f.type) for f in self.row_schema if f.name != "id"},
            "vector_type": str(self.output.vector_type),
            "vector_encoding": str(self.output.vector_encoding),
            "id_column": self.columns.id_column,
            "text": self.columns.text_column or self.columns.text_template,
            "title_column": self.columns.title_column,
            **({"rows": "passages"} if self.embedding.rows_are_passages else {}),
        }
