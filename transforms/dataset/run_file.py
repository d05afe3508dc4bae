"""`_run/run.json`: which run owns the dataset, and the settings pinned for it.

Vectors of other settings, and rows of other columns, are never mixed in.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import enum
import secrets
from typing import Any

import orjson

from bulkembed.schemas.embedding import EmbeddingConfig, digest_of
from bulkembed.schemas.errors import ConfigError, OtherLayout, OutputError, OutputTaken
from bulkembed.schemas.job import JobConfig, RunStamp, VectorEncoding
from bulkembed.schemas.serialization import from_plain
from bulkembed.transforms.core.token_account import TokenAccount
from bulkembed.transforms.dataset import atomic_files, kept_answers
from bulkembed.transforms.dataset.atomic_files import REPAIR
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import (
    ACCOUNT,
    DEAD_LETTERS,
    RUN_FILE,
    SUCCESS,
    UNITS,
    VECTORS,
    is_part_name,
)
from bulkembed.transforms.inputs.text_recipe import (
    decode_template,
    encode_template,
    has_undecoded_escapes,
)

COPY = "_run/run.copy.json"
"""A copy of `run.json`, from which a damaged one is repaired."""
FORMAT_VERSION = 3
"""The format that a run writes.

Since format 2, names of records and parts have a run number. Since format 3, there may be records
of groups, of removed rows and of partitioned units, which an earlier version would not see.
"""
OLDEST_FORMAT = 1
"""The oldest format that a run resumes."""


def new_run_id(prefix: str = "") -> str:
    """Return an id such as `20260131T235959Z-1a72f0`: ids sort by their times, to the millisecond.

    After the second come three hexadecimal digits for the millisecond, and three at random.
    """
    now = dt.datetime.now(dt.UTC)
    return f"{prefix}{now:%Y%m%dT%H%M%SZ}-{now.microsecond // 1000:03x}{secrets.randbits(12):03x}"


class Overwrite(enum.StrEnum):
    """How far `--overwrite` has got; it ends when the dataset is complete."""

    DELETING = "deleting"
    """The old dataset no longer counts, but some of its files may still exist."""
    EMBEDDING = "embedding"
    """The old dataset is deleted; the same command with `--overwrite` resumes."""


def take(
    dataset: Dataset,
    job: JobConfig,
    settings: dict[str, Any],
    *,
    after: int = 0,
    overwrite: bool = False,
) -> JobConfig:
    """Take over a dataset for a run: no worker of an earlier run can commit to it any more.

    The run gets a number larger than that of any run before it, and its settings are pinned.

    Args:
        dataset: the output; this process has its lock.
        job: the run.
        settings: the options of the run, for people; without secrets.
        after: the largest run number found elsewhere, as in the names of records.
        overwrite: whether the existing dataset is to be deleted, whatever its settings.

    Returns:
        The job with its number.

    Raises:
        ConfigError: the dataset was made with other settings.
    """
    pinned = (_read_or_damaged(dataset) if overwrite else check(dataset, job)) or {}
    number = 1 + max(after, pinned.get("run_number", 0))
    stage = Overwrite.DELETING if overwrite else pinned.get("overwrite")
    # With other settings, late commits and kept answers of earlier runs do not count.
    begins = overwrite or not _has_settings_of(pinned, job)
    wanted = _settings_of(job)
    to_pin = wanted if begins else {name: pinned[name] for name in wanted}
    job = dataclasses.replace(
        job,
        run_number=number,
        pinned_digest=to_pin["embedding_digest"],
        unstamped_run=None if begins else unstamped_run(pinned),
    )
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    _write(
        dataset,
        {
            "format_version": FORMAT_VERSION,
            "bulkembed_version": job.version,
            "created": now if begins else pinned["created"],
            **to_pin,
            "last_run_id": job.run_id,
            "run_number": number,
            "first_run_number": number if begins else pinned.get("first_run_number", 0),
            "overwrite": stage,
            "unstamped_run": job.unstamped_run,
            "settings": settings,
        },
    )
    return job


def take_for_compaction(dataset: Dataset, run_id: str, *, after: int) -> RunStamp:
    """Take over a complete dataset to merge its parts; what is pinned stays.

    If it is killed, the dataset has no `_SUCCESS` although all of its rows are committed.

    Args:
        dataset: the dataset; this process has its lock.
        run_id: identifies the compaction.
        after: as in `take`.
    """
    pinned = read(dataset)
    number = 1 + max(after, pinned.get("run_number", 0))
    content = {
        **pinned,
        "format_version": FORMAT_VERSION,
        "last_run_id": run_id,
        "run_number": number,
        "unstamped_run": unstamped_run(pinned),
        "overwrite": None,
        "compacting": True,
    }
    _write(dataset, content)
    encoding = VectorEncoding(pinned["layout"]["vector_encoding"])
    return RunStamp(run_id, number, pinned["embedding_digest"], encoding)


def is_compacting(dataset: Dataset) -> bool:
    """Return whether the last change of a dataset is a compaction: then all rows are committed."""
    return bool(read(dataset).get("compacting"))


def _settings_of(job: JobConfig) -> dict[str, Any]:
    """Return the settings that a job pins for a new dataset."""
    embedding, layout = job.embedding.facts(), job.layout_facts()
    return {
        "embedding_digest": digest_of(embedding),
        "embedding": embedding,
        "layout_digest": digest_of(layout),
        "layout": layout,
    }


def unstamped_run(pinned: dict[str, Any]) -> str | None:
    """Return the last run of a version whose kept answers have no embedding digest.

    None if no such run has written to the dataset.
    """
    run: str | None = pinned.get("unstamped_run")
    return pinned.get("last_run_id") if pinned.get("format_version") == 1 else run


def check_ownership(dataset: Dataset, job: JobConfig | RunStamp) -> None:
    """Check that a run still owns its dataset, by one small read.

    Raises:
        OutputTaken: another run has taken over the dataset, or run.json is missing.
    """
    pinned = dataset.read_json(RUN_FILE)
    if pinned is None and not job.run_number:
        return  # A job without a launcher takes over no dataset.
    owner = pinned or {}
    if (owner.get("run_number"), owner.get("last_run_id")) == (job.run_number, job.run_id):
        return
    who = f"run {owner['last_run_id']}" if "last_run_id" in owner else "another run"
    raise OutputTaken(
        f"{dataset.root}: {who} has taken over this dataset. Run {job.run_id} stops; the units "
        "that it committed before are kept."
    )


def resumes_overwrite(dataset: Dataset, job: JobConfig) -> bool:
    """Return whether `--overwrite` resumes an overwrite that the same settings started.

    It does until the dataset is complete; after that `--overwrite` deletes it again.
    """
    pinned = _read_or_damaged(dataset)
    if pinned is None or pinned.get("overwrite") is None or _is_complete(dataset):
        return False
    return _has_settings_of(pinned, job)


def is_deleting(dataset: Dataset) -> bool:
    """Return whether files of an overwritten dataset may still exist."""
    return (_read(dataset) or {}).get("overwrite") == Overwrite.DELETING


def mark_deleted(dataset: Dataset) -> None:
    """Record that all files of the overwritten dataset are deleted."""
    _set_overwrite(dataset, Overwrite.EMBEDDING)


def end_overwrite(dataset: Dataset) -> None:
    """Record that an overwrite has ended, if the dataset is complete."""
    pinned = _read_or_damaged(dataset) or {}
    if pinned.get("overwrite") is not None and _is_complete(dataset):
        _set_overwrite(dataset, None)


def _set_overwrite(dataset: Dataset, stage: Overwrite | None) -> None:
    _write(dataset, {**read(dataset), "overwrite": stage})


def _is_complete(dataset: Dataset) -> bool:
    return atomic_files.read_bytes(dataset.filesystem, dataset.path(SUCCESS)) is not None


def read(dataset: Dataset) -> dict[str, Any]:
    """Return the content of `run.json` of an existing dataset.

    Raises:
        ConfigError: there is no dataset, its run.json is missing, or it has another format.
        OutputError: its run.json is damaged.
    """
    pinned = _read(dataset)
    if pinned is None:
        _reject_without_pins(dataset)
        raise ConfigError(
            f"{dataset.root}: there is no dataset. Create one with `bulkembed run --output`."
        )
    return pinned


def check(dataset: Dataset, job: JobConfig) -> dict[str, Any] | None:
    """Return the content of `run.json`; None if there is no dataset yet.

    Raises:
        ConfigError: the dataset has other settings than this run, or its run.json is missing.
    """
    pinned = _read(dataset)
    if pinned is None:
        _reject_without_pins(dataset)
        return None
    embedding, layout = _all_differences(pinned, job)
    if not embedding and not layout:
        return pinned
    if not _is_paid_for(dataset, pinned):
        return pinned  # Nothing to mix: the service rejected the first run, or its input was empty.
    if embedding:
        raise ConfigError(
            f"{dataset.root} holds vectors or paid answers that cannot be mixed with those of this "
            f"run: {'; '.join(embedding)}. Choose another --output, or the same settings."
        )
    _reject_undecoded(dataset, pinned, job)
    _reject_other_kind(dataset, pinned, job)
    raise OtherLayout.of(
        f"{dataset.root} has other columns than this run would write: {'; '.join(layout)}. Choose "
        "the same columns. Or keep its vectors, at no cost: run ",
        job.output.uri,
    )


def _reject_other_kind(dataset: Dataset, pinned: dict[str, Any], job: JobConfig) -> None:
    """Raise ConfigError if only one of a dataset and a run mirrors its input by id."""
    if is_synced(pinned) == job.sync:
        return
    if job.sync:
        raise OtherLayout.of(
            f"{dataset.root} was made without --sync, so it may have an id several times. To make "
            "a dataset that mirrors the input, and keep the vectors at no cost, run ",
            job.output.uri,
        )
    raise OtherLayout.of(
        f"{dataset.root} mirrors its input by id, which only --sync keeps so. Add --sync. Or keep "
        "its vectors, at no cost, in a dataset of the other kind: run ",
        job.output.uri,
    )


def _reject_without_pins(dataset: Dataset) -> None:
    """Raise ConfigError if there are parts or records without `run.json`."""
    found = [
        f"{folder}/{name}"
        for folder, is_ours in (
            (VECTORS, is_part_name),
            (DEAD_LETTERS, is_part_name),
            (UNITS, bool),
        )
        for name in dataset.names(folder)
        if is_ours(name)
    ]
    if not found:
        return
    cure = (
        "Copying tools often omit folders whose names begin with _. Restore _run from where the "
        "dataset came from, or choose another --output, or delete the dataset and start over with "
        "--overwrite."
    )
    if read_copy(dataset) is not None:
        cure = REPAIR
    raise ConfigError(
        f"{dataset.root} holds {len(found):,} files of a dataset, such as {found[0]}, but "
        f"{RUN_FILE}, which has their settings, is missing. Nothing was changed. {cure}"
    )


def find(dataset: Dataset) -> dict[str, Any] | None:
    """Return the content of `run.json`; None if there is none.

    Raises:
        ConfigError: it has another format.
        OutputError: it is damaged, or cannot be read.
    """
    return _read(dataset)


def embedding_differences(pinned: dict[str, Any], embedding: EmbeddingConfig) -> list[str]:
    """Return how the settings of a dataset's vectors differ from those of a run."""
    return _differences(pinned["embedding"], embedding.facts())


def id_name_of(layout: dict[str, Any]) -> str:
    """Return the name of the id's column in the output, by the pinned layout."""
    return str(layout.get("id_name", "id"))


def is_synced(pinned: dict[str, Any]) -> bool:
    """Return whether a dataset mirrors its input by id, by the content of its `run.json`."""
    return pinned["layout"].get("sync") is not None


def template_of(pinned: dict[str, Any]) -> str | None:
    """Return the template of the texts; None if they are the values of one column."""
    is_template = pinned["settings"].get("text_template") is not None
    return str(pinned["layout"]["text"]) if is_template else None


def template_warning(pinned: dict[str, Any]) -> str | None:
    r"""Return a warning for a dataset whose texts hold `\n` as two characters; else None."""
    template = template_of(pinned)
    if template is None or not has_undecoded_escapes(template):
        return None
    return (
        rf"the texts hold a backslash and a letter where the template '{template}' most likely "
        r"means a line break or a tab. Earlier versions did not decode \n, \t and \r in "
        "--text-template. To embed the right texts, run the same command with another --output."
    )


def _reject_undecoded(dataset: Dataset, pinned: dict[str, Any], job: JobConfig) -> None:
    r"""Raise ConfigError if the templates differ only because `\n` is now decoded."""
    template = template_of(pinned)
    if template is None or not has_undecoded_escapes(template):
        return
    if decode_template(template) == job.columns.text_template:
        raise ConfigError(
            f"{dataset.root} was made by an earlier version, which did not decode the escapes of "
            f"--text-template '{template}'. Its texts hold a backslash and a letter where this "
            "run sends a line break or a tab. To embed the right texts, choose another --output, "
            "or --overwrite, which pays for all rows again. To keep the texts as they are, write "
            f"--text-template '{encode_template(template)}'."
        )


def _is_paid_for(dataset: Dataset, pinned: dict[str, Any]) -> bool:
    """Return whether anything was paid for with the pinned settings."""
    if pinned.get("overwrite") == Overwrite.DELETING:
        return False  # The files were made with earlier settings, and are to be deleted.
    if dataset.state().records or any(map(is_part_name, dataset.names(VECTORS))):
        return True  # A part without a record: its run was killed between the two.
    digest, run = pinned["embedding_digest"], unstamped_run(pinned)
    return kept_answers.holds_answers(dataset, digest, run) or _paid_tokens(dataset) > 0


def _paid_tokens(dataset: Dataset) -> int:
    """Return the paid tokens of the account; 0 if it is missing or damaged."""
    data = atomic_files.read_bytes(dataset.filesystem, dataset.path(ACCOUNT))
    with contextlib.suppress(ValueError, TypeError):
        return TokenAccount.from_bytes(data or b"").paid
    return 0


def _read(dataset: Dataset) -> dict[str, Any] | None:
    pinned = dataset.read_json(RUN_FILE)
    if pinned is None:
        return None
    version = pinned.get("format_version")
    if isinstance(version, int) and not OLDEST_FORMAT <= version <= FORMAT_VERSION:
        raise ConfigError(
            f"{dataset.root} has format {version}, but this version reads formats "
            f"{OLDEST_FORMAT} to {FORMAT_VERSION}. Use a newer bulkembed, or another --output."
        )
    try:
        _check_content(pinned)
    except ValueError as error:
        raise dataset.damaged_file(RUN_FILE, str(error)) from None
    return pinned


def _read_or_damaged(dataset: Dataset) -> dict[str, Any] | None:
    """Return the content of `run.json`; None if damaged, since an overwrite replaces it."""
    try:
        return _read(dataset)
    except OutputError as error:
        if error.damaged:
            return None
        raise


def _has_settings_of(pinned: dict[str, Any], job: JobConfig) -> bool:
    """Return whether the pinned settings, if any, are those of a job.

    The facts are compared, not their digests, because a later version may have more facts.
    """
    return bool(pinned) and _all_differences(pinned, job) == ([], [])


def _all_differences(pinned: dict[str, Any], job: JobConfig) -> tuple[list[str], list[str]]:
    """Return the differences of the embedding, and of the layout."""
    embedding = _differences(pinned["embedding"], job.embedding.facts())
    return embedding, _differences(pinned["layout"], job.layout_facts())


def _differences(pinned: dict[str, Any], wanted: dict[str, Any], within: str = "") -> list[str]:
    found = []
    for key in sorted(pinned.keys() | wanted.keys()):
        old, new, name = pinned.get(key), wanted.get(key), within + key
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differences(old, new, f"{name}.")
        elif old != new and within == "kept." and (old is None or new is None):
            where = "in this run" if old is None else "in the dataset"
            found.append(f"column {key!r} is kept {where} only")
        elif old != new:
            shown = f"{_shown(old, new)} in the dataset and {_shown(new, old)} in this run"
            found.append(f"{name} is {shown}")
    return found


def _shown(value: object, other: object) -> str:
    """Return a fact for a message; a switch may be pinned only if it is on."""
    if value is None:
        return "False" if other is True else "not set"
    return repr(value)


def _write(dataset: Dataset, pinned: dict[str, Any]) -> None:
    """Write `run.json`, and first its copy, from which a damaged one is repaired."""
    dataset.write_json(COPY, pinned)
    dataset.write_json(RUN_FILE, pinned)


def read_copy(dataset: Dataset) -> bytes | None:
    """Return the content of the copy of `run.json`; None if it is missing or damaged."""
    data = atomic_files.read_bytes(dataset.filesystem, dataset.path(COPY))
    try:
        _check_content(orjson.loads(data or b""))
    except ValueError:
        return None
    return data


def lost_settings_error(dataset: Dataset) -> ConfigError:
    """Return the error for a dataset whose settings are unknown."""
    return ConfigError(
        f"{dataset.root}: {RUN_FILE} is missing or damaged, and so is its copy, {COPY}, so the "
        "settings of the vectors are unknown. Restore one of the two files from a copy of the "
        "dataset, or choose another --output, or delete the dataset and start over with "
        "--overwrite."
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _RunFile:
    """The fields of `run.json` that every version writes, and the numbers of later ones."""

    format_version: int
    bulkembed_version: str
    created: str
    last_run_id: str
    embedding: dict[str, Any]
    embedding_digest: str
    layout: dict[str, Any]
    layout_digest: str
    settings: dict[str, Any]
    run_number: int = 0
    first_run_number: int = 0


def _check_content(pinned: dict[str, Any]) -> None:
    """Raise ValueError if the content of `run.json` is not what `take` writes."""
    content = from_plain(pinned, _RunFile)
    for name in ("embedding", "layout"):
        if getattr(content, f"{name}_digest") != digest_of(getattr(content, name)):
            raise ValueError(f"{name!r} does not match its digest")
