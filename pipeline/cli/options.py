"""The options of `bulkembed run`, under the headings of its help.

An option is defined here once. Config files, environment variables, the page docs/flags.md, the
parameters of the Dataflow template and the settings in `run.json` follow from these definitions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bulkembed.pipeline.cli.commands import (
    ByteSize,
    Duration,
    IsoDate,
    Number,
    Option,
    WordChoice,
    read_config,
)
from bulkembed.pipeline.run.delete_guard import DEFAULT_DELETE_LIMIT
from bulkembed.pipeline.run.request import (
    DEFAULT_KEEP_CHANGES,
    MissingFiles,
    SyncOn,
    UniqueIds,
)
from bulkembed.schemas.batch import MAX_JOB_ROWS, BatchFallback, Mode
from bulkembed.schemas.embedding import BlankText, Compression, LongText, Wire
from bulkembed.schemas.inputs import IdType
from bulkembed.schemas.job import Dedupe, VectorEncoding, VectorType
from bulkembed.schemas.media_settings import LongMedia, MediaCheck, Transcode
from bulkembed.schemas.models import DEFAULT_MODEL, TaskType
from bulkembed.schemas.quota import Pace, RpmCounts, Tier
from bulkembed.transforms.inputs.formats import FORMATS

CONVERT_FILES = (
    "Convert other files to Parquet or JSONL first, for example with DuckDB: "
    "COPY (FROM 'a.csv') TO 'a.parquet' (FORMAT parquet)"
)


def _option(section: str, *names: str, **settings: Any) -> Option:
    settings.setdefault("show_default", settings.get("default") not in (None, ""))
    flags = (names[0].split("/")[0], *settings.get("aliases", ()))
    settings.setdefault("envvar", [_variable(flag) for flag in flags])
    return Option(list(names), section=section, **settings)


def _variable(flag: str) -> str:
    return f"BULKEMBED_RUN_{flag.removeprefix('--').replace('-', '_').upper()}"


_INPUT, _MODEL, _OUTPUT = "Input", "Model", "Output"
_MEDIA = "Images and other media"
_SERVICE, _PACE, _RUN = "Service", "Requests and quota", "Run"
_BATCH = "Batch jobs"
OF_DATASETS = (_INPUT, _MEDIA, _MODEL, _OUTPUT, _PACE)
"""The sections whose values may be taken from the `run.json` of a dataset."""


# fmt: off
OPTIONS: tuple[Option, ...] = (
    _option(_INPUT, "--input", "patterns", multiple=True, required=True, metavar="PATTERN",
            help="File, folder or quoted glob (** too): local, file://, s3://, gs://, az:// or "
            "abfs://. Repeatable."),
    _option(_INPUT, "--format", type=WordChoice(FORMATS, CONVERT_FILES),
            show_default="by name and content",
            help="Format of most input files, whatever their names. The content of each file "
            "decides."),
    _option(_INPUT, "--id-column", default="id", metavar="NAME",
            help="Column of the ids: integers or strings. For each option that names a column, "
            "a.b means field b in column a."),
    _option(_INPUT, "--id-type", type=WordChoice(IdType), default="auto",
            help="Type of the ids in the output. string turns all ids into strings."),
    _option(_INPUT, "--generate-ids", is_flag=True,
            help="Make ids of the form path#row instead of reading an id column."),
    _option(_INPUT, "--text-column", metavar="NAME", show_default="text",
            help="Column of the text."),
    _option(_INPUT, "--text-template", metavar="TEMPLATE",
            help="Text made of several columns, e.g. '{title}\\n\\n{body}'. \\n is a line break, "
            "\\t a tab, \\r a carriage return, and \\\\ a backslash."),
    _option(_INPUT, "--content", multiple=True, metavar="PART",
            help="A part of what is sent for a row, in order: a text as for --text-template, "
            "text:COLUMN, image:COLUMN, audio:COLUMN, video:COLUMN or pdf:COLUMN. Repeatable."),
    _option(_INPUT, "--title-column", metavar="NAME",
            help="Column of the document titles, sent with the text. RETRIEVAL_DOCUMENT only."),
    _option(_INPUT, "--keep-columns", metavar="NAMES", default="",
            help="Columns to copy to the output with their types, separated by commas; '*' for "
            "all."),
    _option(_INPUT, "--blank-text", type=WordChoice(BlankText), default="skip",
            help="What to do with rows whose text is empty: skip the row or stop the run."),
    _option(_INPUT, "--skip-bad-files", is_flag=True,
            help="Skip files that cannot be read, and list them."),
    _option(_INPUT, "--table-files-as-they-are", "tables_as_files", is_flag=True,
            help="Read all Parquet files of a Delta, Hudi or Iceberg table, also those that its "
            "log has replaced or removed."),
    _option(_INPUT, "--rescan", is_flag=True,
            help="Read every input file again, even if its size and modification time are those "
            "of the last run. With --sync, also the files of media that rows name."),
    _option(_INPUT, "--limit-rows", type=Number(), metavar="NUMBER",
            help="Process only the first rows, for a trial."),
    _option(_OUTPUT, "--output", required=True, metavar="PATH",
            help="Folder of the dataset: a path, or a URI as for --input."),
    _option(_OUTPUT, "--id-name", default="id", metavar="NAME",
            help="Name of the id's column in the output, e.g. that of --id-column."),
    _option(_OUTPUT, "--vector-type", type=WordChoice(VectorType), default="float32",
            help="Type of a vector's elements."),
    _option(_OUTPUT, "--vector-encoding", type=WordChoice(VectorEncoding), default="plain",
            help="Parquet encoding of the vectors. byte_stream_split saves 15 %, but some readers, "
            "such as Spark 4.1, cannot read it."),
    _option(_OUTPUT, "--partition-by", metavar="NAME",
            help="Write the vectors into hive partitions by a kept column, as in "
            "vectors/lang=de/."),
    _option(_OUTPUT, "--target-file-size", type=ByteSize(), metavar="SIZE",
            show_default="no merging",
            help="Merge small files of the dataset when it is complete, up to this size, e.g. "
            "256MB. See `bulkembed compact`."),
    _option(_OUTPUT, "--provenance", is_flag=True,
            help="Write the columns run_id and embedded_at: the run that wrote a row, and when."),
    _option(_MODEL, "--model", default=DEFAULT_MODEL, metavar="NAME",
            help="Embedding model. `bulkembed models` lists them."),
    _option(_MODEL, "--task-type", type=WordChoice(TaskType), default="RETRIEVAL_DOCUMENT",
            metavar="TYPE", help=f"What the vectors are for: {', '.join(TaskType)}."),
    _option(_MODEL, "--dim", type=Number(), metavar="NUMBER", show_default="the model's",
            help="Dimensions of a vector."),
    _option(_MODEL, "--normalize/--no-normalize", default=True,
            help="Scale vectors to unit length."),
    _option(_MODEL, "--long-text", type=WordChoice(LongText), default="truncate",
            help="How to handle texts longer than the model accepts, or longer than "
            "--passage-tokens."),
    _option(_MODEL, "--passage-tokens", type=Number(), metavar="NUMBER",
            show_default="512; for mean a quarter of the model's maximum",
            help="Maximum tokens of a passage, estimated at four UTF-8 bytes each."),
    _option(_MODEL, "--passage-overlap", type=Number(), metavar="NUMBER",
            show_default="64; for mean 0",
            help="Maximum tokens of the previous passage to repeat."),
    _option(_MEDIA, "--check-media", type=WordChoice(MediaCheck), default="decode",
            help="How closely to look at media before it is sent: decode images, read headers "
            "only, or look at the first bytes only (off)."),
    _option(_MEDIA, "--transcode", type=WordChoice(Transcode), default="auto",
            help="Transcode images that the model does not accept to JPEG, or to PNG if they have "
            "an alpha channel."),
    _option(_MEDIA, "--max-image-side", type=Number(), metavar="PIXELS", show_default="no limit",
            help="Reduce larger images to this longer side. It saves bytes and time, not money."),
    _option(_MEDIA, "--max-image-pixels", type=Number(), default=50_000_000, metavar="NUMBER",
            help="Maximum pixels of an image."),
    _option(_MEDIA, "--max-media-bytes", type=ByteSize(), default="20MB", metavar="SIZE",
            help="Maximum size of an image or another medium as it is sent."),
    _option(_MEDIA, "--max-source-bytes", type=ByteSize(), default="100MB", metavar="SIZE",
            help="Maximum size of a file of media as it is read."),
    _option(_MEDIA, "--long-media", type=WordChoice(LongMedia), default="dead-letter",
            help="How to handle audio, video and PDF files longer than the model accepts: as dead "
            "letters, or embed their first seconds or pages (head), or cut them into pieces, each "
            "of which becomes a row of the output."),
    _option(_MEDIA, "--piece-seconds", type=Number(float, above=0), metavar="SECONDS",
            show_default="the model's maximum",
            help="Seconds of audio or video in a piece, or in the head."),
    _option(_MEDIA, "--piece-overlap-seconds", type=Number(float, minimum=0), default=0.0,
            metavar="SECONDS", help="Seconds of the previous piece to repeat."),
    _option(_MEDIA, "--piece-pages", type=Number(), metavar="NUMBER",
            show_default="the model's maximum",
            help="Pages of a PDF file in a piece, or in the head."),
    _option(_MEDIA, "--piece-overlap-pages", type=Number(minimum=0), default=0, metavar="NUMBER",
            help="Pages of the previous piece to repeat."),
    _option(_MEDIA, "--document-ocr", is_flag=True,
            help="Also embed the text that the service reads in PDF files. Vertex AI only."),
    _option(_MEDIA, "--audio-track", is_flag=True,
            help="Also embed the audio track of videos, which may then last 80 s. Vertex AI only."),
    _option(_MEDIA, "--media-by-uri", is_flag=True,
            help="Let the service read files in buckets of Google Cloud Storage itself, by their "
            "gs:// URIs, without most checks. Vertex AI only."),
    _option(_MEDIA, "--media-root", metavar="PATH", show_default="the folder of the input file",
            help="Folder of relative paths in media columns: a path, or a URI as for --input."),
    _option(_MEDIA, "--fetch-concurrency", type=Number(), default=32, metavar="NUMBER",
            help="Maximum files of media that a process reads at a time."),
    _option(_MEDIA, "--fetch-per-host", type=Number(), default=8, metavar="NUMBER",
            help="Maximum files of media that a process reads from one host at a time."),
    _option(_MEDIA, "--fetch-timeout", type=Duration(), default="30s", metavar="TIME",
            help="How long one download of a file of media may take."),
    _option(_MEDIA, "--allow-private-addresses", is_flag=True,
            help="Let URLs of media lead to this machine and to private networks."),
    _option(_SERVICE, "--emulator", is_flag=True,
            help="Start a local emulator and use it. It needs no key, but its vectors are not "
            "Gemini's."),
    _option(_SERVICE, "--base-url", metavar="URL",
            show_default="GOOGLE_GEMINI_BASE_URL or GOOGLE_VERTEX_BASE_URL, else Google's",
            help="Address of the API."),
    _option(_SERVICE, "--api-version", metavar="VERSION", show_default="v1beta; Vertex: v1beta1",
            help="Version of the API."),
    _option(_SERVICE, "--api-key-file", metavar="PATH",
            help="File that holds the API key and nothing else."),
    _option(_SERVICE, "--api-key-secret", metavar="NAME",
            help="Secret in Google Secret Manager that holds the API key, "
            "projects/PROJECT/secrets/NAME. Each worker reads it."),
    _option(_SERVICE, "--vertexai", is_flag=True,
            help="Use Vertex AI. With a key alone this is express mode."),
    _option(_SERVICE, "--vertex-project", metavar="NAME",
            help="Google Cloud project, used with application-default credentials."),
    _option(_SERVICE, "--vertex-location", metavar="NAME",
            help="Google Cloud region, together with --vertex-project."),
    _option(_SERVICE, "--timeout", "timeout_s", type=Duration(), default="60s", metavar="TIME",
            help="How long to wait for the response to one request."),
    _option(_SERVICE, "--compression", type=WordChoice(Compression), default="auto",
            help="Whether the service may compress its answers (auto). off takes less CPU time, "
            "and more than twice the bytes."),
    _option(_SERVICE, "--wire", type=WordChoice(Wire), default="json",
            help="Format of answers. proto is an experiment that was never tried with Google: the "
            "Developer API may answer in protobuf, with less than a third of the bytes."),
    _option(_PACE, "--tier", type=WordChoice(Tier), show_default="1 on the Developer API",
            help="Google's usage tier, which sets --rpm, --tpm and --rpd."),
    _option(_PACE, "--rpm", type=Number(minimum=0), metavar="NUMBER", show_default="by tier",
            help="Maximum texts per minute: Google counts each text as one request. 0 means no "
            "limit."),
    _option(_PACE, "--tpm", type=Number(minimum=0), metavar="NUMBER", show_default="by tier",
            help="Maximum tokens per minute. 0 means no limit."),
    _option(_PACE, "--rpd", type=Number(minimum=0), metavar="NUMBER", show_default="by tier",
            help="Maximum texts per day. 0 means no limit."),
    _option(_PACE, "--retry-timeout", "retry_timeout_s", aliases=["--call-deadline"],
            type=Duration(), default="10m", metavar="TIME",
            help="How long to retry a failing request. If no request succeeds for this long, the "
            "run ends with code 75."),
    _option(_PACE, "--rpm-counts", type=WordChoice(RpmCounts), default="texts",
            help="What --rpm and --rpd count: texts, or HTTP requests (calls)."),
    _option(_PACE, "--pace", type=WordChoice(Pace), default="window",
            help="When to send: as soon as the last 60 s allow it (window), or evenly (smooth)."),
    _option(_PACE, "--quota-share", metavar="1/NUMBER", default="1",
            help="This host's share of the limits, if several hosts share one quota."),
    _option(_PACE, "--quota-name", metavar="NAME",
            help="Name of the quota. Runs with the same name share one quota: for several keys of "
            "one project."),
    _option(_PACE, "--rate-limit-service", "rate_service", metavar="HOST:PORT",
            help="Envoy rate limit service to ask before each request, in addition to the limits."),
    _option(_PACE, "--concurrency", aliases=["--max-in-flight"], type=Number(), default=16,
            metavar="NUMBER", help="Maximum requests in flight."),
    _option(_BATCH, "--mode", type=WordChoice(Mode), default="online",
            help="How to get vectors: online at once, in batch jobs at half the price, or (auto) "
            "in batch jobs for the time of --batch-max-wait and then online."),
    _option(_BATCH, "--detach", is_flag=True,
            help="Submit batch jobs and end with code 75. The same command collects answers."),
    _option(_BATCH, "--enqueued-tokens", type=Number(minimum=1), metavar="NUMBER",
            show_default="by --tier",
            help="Maximum tokens of all open batch jobs, as the project's quota allows."),
    _option(_BATCH, "--enqueued-headroom", type=Number(float, minimum=0, maximum=90), default=10,
            metavar="PERCENT",
            help="Part of the enqueued tokens to leave unused, because tokens are estimated."),
    _option(_BATCH, "--batch-job-rows", "job_rows", type=Number(), default=MAX_JOB_ROWS,
            metavar="NUMBER", help="Maximum texts of a batch job."),
    _option(_BATCH, "--batch-job-size", "job_bytes", type=ByteSize(), metavar="SIZE",
            show_default="1900MB, on Vertex AI 950MB",
            help="Maximum size of the file of a batch job."),
    _option(_BATCH, "--batch-attempts", "attempts", type=Number(), default=3, metavar="NUMBER",
            help="How often a text without an answer is put into a batch job."),
    _option(_BATCH, "--batch-fallback", "fallback", type=WordChoice(BatchFallback),
            default="online",
            help="What to do with texts that batch jobs have not answered: send them online at the "
            "full price, or stop."),
    _option(_BATCH, "--batch-max-wait", "max_wait_s", type=Duration(), metavar="TIME",
            show_default="6h with --mode auto",
            help="How long --mode auto waits for batch jobs. Then it cancels them, and sends the "
            "remaining texts online."),
    _option(_BATCH, "--batch-poll", "poll_max_s", type=Duration(), default="5m", metavar="TIME",
            help="Longest time between two looks at open batch jobs."),
    _option(_BATCH, "--keep-remote-files", is_flag=True,
            help="Keep the files and results of batch jobs at the service."),
    _option(_BATCH, "--batch-bucket", "bucket", metavar="URI",
            help="Where the files of batch jobs on Vertex AI are, as gs://BUCKET/FOLDER."),
    _option(_BATCH, "--price-factor", type=Number(float, above=0), metavar="NUMBER",
            show_default="0.5",
            help="Price of a token in a batch job, as a part of the online price."),
    _option(_RUN, "--unit-rows", type=Number(), default=2500, metavar="NUMBER",
            help="Rows to commit together."),
    _option(_RUN, "--dedupe", type=WordChoice(Dedupe), default="run",
            help="Send identical texts once: across the whole run, within each unit, or never."),
    _option(_RUN, "--reuse", multiple=True, metavar="DIR",
            help="Take vectors of another dataset with the same model settings instead of paying "
            "for them. Repeatable."),
    _option(_RUN, "--max-dead-letters", metavar="NUMBER|PERCENT",
            show_default="1% of the planned rows, at least 10",
            help="Rows that may fail, not counting blank ones. If more fail, the run ends with "
            "code 3."),
    _option(_RUN, "--max-cost-usd", type=Number(float, above=0), metavar="USD",
            help="Maximum cost of the dataset, all of its runs together. The run ends with code 4 "
            "before it exceeds the maximum."),
    _option(_RUN, "--price-usd-per-mtok", "usd_per_mtok", metavar="USD",
            type=Number(float, above=0), show_default="Google's list price",
            help="Price of a million tokens, for another service or model."),
    _option(_RUN, "--retry-failed", aliases=["--retry-dead-letters"], is_flag=True,
            help="Retry dead-lettered rows only."),
    _option(_RUN, "--sync", is_flag=True,
            help="Make the dataset equal to the input, row by row, by id: embed new and changed "
            "rows, and delete rows that are gone, as far as --max-delete allows."),
    _option(_RUN, "--unique-ids", type=WordChoice(UniqueIds), default="error",
            help="If --sync finds an id several times in the input: stop with code 2, or take the "
            "last of its rows."),
    _option(_RUN, "--sync-on", type=WordChoice(SyncOn), default="auto",
            help="With --sync on a cluster: compare and remove rows on the machine that starts the "
            "run, on the workers, or (auto) on the workers if there is enough to do."),
    _option(_RUN, "--prune", is_flag=True,
            help="Remove the rows of input files that have been deleted, as far as --max-delete "
            "allows."),
    _option(_RUN, "--max-delete", metavar="NUMBER|PERCENT", default=str(DEFAULT_DELETE_LIMIT),
            help="Rows of the dataset that a run may delete. If it would delete more, it ends with "
            "code 3 before it sends or deletes anything."),
    _option(_RUN, "--missing-files", type=WordChoice(MissingFiles), default="stop",
            help="If the ids of deleted input files are in files that are not embedded yet: stop "
            "with code 2 before anything is sent, or keep the rows with these ids twice. Without "
            "such ids the rows of deleted files are kept."),
    _option(_RUN, "--keep-superseded", is_flag=True,
            help="Keep the parts that this run supersedes until another run is complete, for "
            "readers that open the parts that `bulkembed parts` lists. Readers of the whole "
            "folder read both."),
    _option(_RUN, "--keep-changes", type=Number(minimum=0, maximum=100_000),
            default=DEFAULT_KEEP_CHANGES, show_default=True, metavar="DAYS",
            help="Delete lists of changes that are older. `bulkembed changes --since` reaches back "
            "as far. The list of the last run is always kept; 0 keeps no other."),
    _option(_RUN, "--overwrite", aliases=["--fresh"], is_flag=True,
            help="Delete the existing dataset at --output and start over. The same command resumes "
            "the new dataset until it is complete, and then deletes it again."),
    _option(_RUN, "--date", type=IsoDate(), show_default="today in UTC",
            help="The day for {date} in --output, --input and --reuse, as in "
            "'embeddings/dt={date}'. {date-1} is the day before."),
    _option(_RUN, "--max-runtime", "max_runtime_s", aliases=["--deadline"], type=Duration(),
            metavar="TIME", help="Stop cleanly after this much time, e.g. 2h."),
    _option(_RUN, "--shutdown-timeout", "shutdown_timeout_s", aliases=["--grace"],
            type=Duration(), default="20s", metavar="TIME",
            help="How long to wait for requests in flight when stopping."),
    _option(_RUN, "--workers", type=Number(), default=1, metavar="NUMBER",
            help="Processes on this machine, at most one per core. They share the work, the quota "
            "and --concurrency."),
    _option(_RUN, "--runner", metavar="NAME", show_default="in this process",
            help="Beam runner. Its own options follow a bare --."),
    _option(_RUN, "--report/--no-report", default=None, show_default="on a terminal",
            help="Write OUT/_run/report.html at the end, if bulkembed[report] is installed."),
    _option(_RUN, "--report-texts/--no-report-texts", default=None,
            show_default="on a terminal",
            help="Show excerpts of texts in the report."),
    _option(_RUN, "--config", type=click.Path(path_type=Path), is_eager=True,
            callback=read_config, metavar="PATH",
            help="YAML file with options as keys. The command line and the environment override "
            "it."),
    _option(_RUN, "--log-level", default="info", help="Least severe messages to log.",
            type=WordChoice(("debug", "info", "warning", "error"))),
    _option(_RUN, "--log-json", is_flag=True,
            help="Write the log, the progress and the summary as JSON, one object per line."),
)
# fmt: on

SERVICE_OPTIONS = tuple(option for option in OPTIONS if option.section == _SERVICE)
"""The options that choose the service, for other commands that call it."""
MEDIA_PLACES = tuple(
    option for option in OPTIONS if option.name in ("media_root", "allow_private_addresses")
)
"""The options about where media is, for other commands that read it."""
BATCH_BUCKET = next(option for option in OPTIONS if option.name == "bucket")
