"""The work of a run: the scanned input minus committed units. Changes nothing."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import pyarrow as pa

from bulkembed.pipeline.logs import log
from bulkembed.pipeline.run.plan import Plan, make_plan, make_retry_plan, remaining_rows
from bulkembed.pipeline.run.request import LOCAL_RUNNER, RunRequest
from bulkembed.pipeline.run.row_schema import row_schema
from bulkembed.pipeline.run.scans import Scans, planned_files, scan_inputs, unreadable_input_error
from bulkembed.pipeline.run.settle import has_success_marker
from bulkembed.pipeline.run.summary import join_names
from bulkembed.pipeline.sync.sync_file import synced_rows
from bulkembed.schemas.embedding import ServiceConfig
from bulkembed.schemas.errors import ConfigError, InputError, OutputError
from bulkembed.schemas.inputs import OBJECTS, PASSAGE_COLUMNS, PROVENANCE_COLUMNS
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.units import UnitRecord
from bulkembed.transforms.core.file_names import readable_name
from bulkembed.transforms.dataset import run_file
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import SUCCESS
from bulkembed.transforms.dataset.partitions import check_column
from bulkembed.transforms.dataset.processes import this_process
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.inputs.columns import column_notes
from bulkembed.transforms.inputs.discover import looks_like_data
from bulkembed.transforms.inputs.filesystems import Location, locate
from bulkembed.transforms.inputs.input_files import ScannedFile

_PAGE_COPIES = 3
"""While a page is decompressed: its dictionary, the stored page, and the page."""
_BASE_MB = 450
"""What a run with media needs in any case."""


def scan(dataset: Dataset, request: RunRequest) -> Scans:
    """Scan the input files; log those that are skipped or ignored, or not what their name says."""
    wanted = request.input
    scans = scan_inputs(
        dataset,
        wanted.patterns,
        wanted.columns,
        format=wanted.format,
        skip_bad_files=wanted.skip_bad_files,
        output=request.output.uri or None,
        trust_saved=not wanted.rescan,
        tables_as_files=wanted.tables_as_files,
    )
    for error in scans.unreadable:
        log.warning("skipped by --skip-bad-files: %s", error.without_advice)
    nothing_readable = unreadable_input_error(scans)
    if nothing_readable is not None:
        raise nothing_readable
    if scans.ignored:
        level = logging.WARNING if any(map(looks_like_data, scans.ignored)) else logging.INFO
        log.log(
            level,
            "ignored: %s. To read such a file, name it with --input.",
            join_names(scans.ignored),
        )
    for file in scans.files:
        format_name = file.reading.removesuffix(OBJECTS).rstrip("+")
        if format_name:
            log.info("%s is read as %s, which is its actual format", file.found.name, format_name)
    note = large_page_note(scans.files)
    if note is not None:
        log.warning("%s", note)
    return scans


def large_page_note(scanned: Sequence[ScannedFile]) -> str | None:
    """Return what a user should know about pages that are in memory as a whole; None if few are."""
    held = [file for file in scanned if file.held_bytes]
    if not held:
        return None
    largest = max(held, key=lambda file: file.held_bytes)
    others = f" (and {number_of(len(held) - 1, 'more file')})" if len(held) > 1 else ""
    megabytes = largest.held_bytes // 1_000_000
    return (
        f"{largest.found.name}{others} has pages of {megabytes:,} MB in a column of media, which "
        f"are read as a whole: the run may need {_PAGE_COPIES * megabytes + _BASE_MB:,} MB of "
        "memory. Write smaller pages, with write_batch_size=10 in pyarrow, or media that is not "
        "in lists. See docs/media.md."
    )


def skip_damaged_file(request: RunRequest, scans: Scans, error: InputError) -> Scans:
    """Return the input without a file whose damage was found while it was read.

    Raises:
        InputError: `--skip-bad-files` is not set, or no other file remains.
    """
    if not (request.input.skip_bad_files and error.damaged):
        raise error
    log.warning("skipped by --skip-bad-files: %s", error.without_advice)
    others = scans.without(error.path, error)
    nothing_readable = unreadable_input_error(others)
    if nothing_readable is not None:
        raise nothing_readable
    return others


def make_job(
    request: RunRequest, service: ServiceConfig, scans: Scans, dataset: Dataset
) -> JobConfig:
    """Return the configuration of the workers, with a new run id.

    Raises:
        ConfigError: an option does not fit the input, or names a folder that does not exist.
    """
    return JobConfig(
        run_id=run_file.new_run_id(),
        service=service,
        embedding=request.embedding,
        calls=request.calls,
        columns=request.input.columns,
        row_schema=_row_schema(request, scans, dataset),
        output=request.output,
        fetch=request.input.fetch,
        media_root=_media_root(request),
        reuse=request.reuse if request.embedding.media is not None else (),
        blank_text=request.input.blank_text,
        skip_bad_files=request.input.skip_bad_files,
        dedupe=request.dedupe,
        unit_rows=request.unit_rows,
        sync=request.sync,
        launcher=this_process(),
        version=metadata.version("bulkembed"),
    )


def _media_root(request: RunRequest) -> Location | None:
    given = request.input.media_root
    root = None if given is None else locate(given)
    here = request.runner in (None, LOCAL_RUNNER)  # Other workers may have folders of their own.
    if root is not None and root.is_local and here and not Path(root.path).is_dir():
        raise ConfigError(
            f"--media-root {readable_name(str(given))}: there is no such folder. Name the folder "
            "below which the relative paths of media are."
        )
    return root


def _row_schema(request: RunRequest, scans: Scans, dataset: Dataset) -> pa.Schema:
    known = None if request.overwrite else dataset
    schema = row_schema(known, scans.files, request.input.columns)
    for note in column_notes(scans.files, schema):
        log.warning("%s", note)
    clash = [name for name in PROVENANCE_COLUMNS if name in schema.names]
    if clash and request.output.provenance:
        raise ConfigError(
            f"--keep-columns: the input column {clash[0]!r} has the name of a column that "
            f"--provenance writes ({', '.join(PROVENANCE_COLUMNS)}). Rename it, or keep only other "
            "columns."
        )
    if request.output.partition_by is not None:
        check_column(request.output.partition_by, request.input.columns, schema)
    taken = [name for name in PASSAGE_COLUMNS if name in schema.names]
    if taken and request.embedding.rows_are_passages:
        raise ConfigError(
            f"--keep-columns: the input column {taken[0]!r} has the name of a column that "
            f"passages and pieces have ({', '.join(PASSAGE_COLUMNS)}). Rename it, or keep only "
            "other columns."
        )
    return schema


def plan_run(request: RunRequest, scans: Scans, before: DatasetState) -> Plan:
    """Plan the units to embed or to retry, given the state of the dataset."""
    limit = request.input.limit_rows
    if request.retry_failed:
        return make_retry_plan(scans.inputs, before, limit)
    return make_plan(scans.inputs, before, request.unit_rows, limit)


def committed(dataset: Dataset, scans: Scans, *, sync: bool = False) -> DatasetState:
    """Return the state of the dataset; units with damaged parts do not count as committed.

    Damaged units of input files that no longer exist do count: they cannot be embedded again. With
    `sync` their rows are found in the input by their ids, so they do not count.
    """
    state = dataset.state()
    _check_lost_records(dataset, state, sync=sync)
    if not state.records:
        return state
    damaged, unnamed = dataset.check_parts(state)
    state = dataclasses.replace(state, unnamed=tuple(unnamed))
    current = {file.key for file in scans.inputs}
    redo = frozenset(record for record in damaged if sync or record.unit.file_key in current)
    _check_groups(dataset, state, redo, frozenset(damaged) - redo)
    if redo:
        log.warning(
            "parts of %s are missing or have another size than was committed. Embedding these "
            "rows again.",
            number_of(sum(record.unit.rows for record in redo), "row"),
        )
    lost = sum(record.unit.rows for record in damaged if record not in redo)
    if lost:
        log.warning(
            "parts of %s are missing or have another size than was committed, and the input files "
            "of these rows are missing. Restore them, or remove the rows with --prune.",
            number_of(lost, "row"),
        )
    return dataclasses.replace(state.without(redo), damaged=tuple(redo))


def _check_groups(
    dataset: Dataset,
    state: DatasetState,
    redo: frozenset[UnitRecord],
    lost: frozenset[UnitRecord],
) -> None:
    """Raise OutputError if a damaged group has rows of current and of missing input files.

    Embedding the rows of the current files again replaces its parts, and with them the others.
    """
    for group in state.groups:
        units = frozenset(group.members)
        if units & redo and units & lost:
            rows = number_of(sum(record.unit.rows for record in units & lost), "row")
            part = dataset.parts_of(group).all[0]
            raise OutputError(
                f"{dataset.root}: {part} is missing or has another size than was committed. It "
                f"holds {rows} of input files that are missing now, beside rows that can be "
                "embedded again. Nothing was changed. Restore the part from a copy, or run "
                "`bulkembed verify --repair OUT`, which moves the part aside, then rerun this "
                "command."
            )


def _check_lost_records(dataset: Dataset, state: DatasetState, *, sync: bool) -> None:
    """Raise OutputError if rows were done when `_SUCCESS` was written, but have no record now."""
    if not has_success_marker(dataset):
        return
    if sync:
        left = synced_rows(dataset, state.records, complete=True).left
    else:
        left = remaining_rows(list(planned_files(dataset).values()), state)
    if left:
        raise OutputError(
            f"{dataset.root}: the commit records of {number_of(left, 'row')} are missing, although "
            f"{SUCCESS} says that the rows are done. Nothing was changed. Run `bulkembed verify "
            "--repair OUT` to write the records of undamaged parts again, then rerun this command."
        )
