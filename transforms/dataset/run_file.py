"""`_run/run.json`: who writes the dataset, and with which settings, so that nothing is mixed in."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import enum
from typing import Any

import orjson

from bulkembed.schemas.embedding import digest_of
from bulkembed.schemas.errors import ConfigError, OutputError, OutputTaken
from bulkembed.schemas.job import JobConfig
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
FORMAT_VERSION = 2
"""The format that a run writes.  2: names of records and parts have the number of their run."""
OLDEST_FORMAT = 1
"""The oldest format that a run resumes."""


class Overwrite(enum.StrEnum):
    """How far an overwrite (`--overwrite`) got; it is over when the dataset is complete."""

    DELETING = "deleting"
    """The old dataset does not count any more, but files of it may be left."""
    EMBEDDING = "embedding"
    """The old dataset is gone: the same command with `--overwrite` goes on."""


def take(
    dataset: Dataset,
    job: JobConfig,
    settings: dict[str, Any],
    *,
    after: int = 0,
    overwrite: bool = False,
) -> JobConfig:
    """Take a dataset for a run: from now on no worker of an earlier run can commit to it.

    The run gets a number larger than that of any run before it, and its settings are pinned.

    Args:
        dataset: the output; this process holds its lock.
        job: what this run is about to do.
        settings: the options of the run, for people; without a secret.
        after: the largest run number that is known of other places.
        overwrite: whether all that is there is to be deleted, whatever its settings.

    Returns:
        The job with its number.

    Raises:
        ConfigError: the dataset was made with other settings.
    """
    pinned = (_read_or_damaged(dataset) if overwrite else check(dataset, job)) or {}
    number = 1 + max(after, pinned.get("run_number", 0))
    stage = Overwrite.DELETING if overwrite else pinned.get("overwrite")
    # With other settings, what earlier runs commit late does not count, nor what they kept.
    begins = overwrite or not _has_settings_of(pinned, job)
    settled = _settings_of(job) if begins else {name: pinned[name] for name in _settings_of(job)}
    job = dataclasses.replace(
        job,
        run_number=number,
        pinned_digest=settled["embedding_digest"],
        unstamped_run=None if begins else unstamped_run(pinned),
    )
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    _write(
        dataset,
        {
            "format_version": FORMAT_VERSION,
            "bulkembed_version": job.version,
            "created": now if begins else pinned["created"],
            **settled,
            "last_run_id": job.run_id,
            "run_number": number,
            "first_run_number": number if begins else pinned.get("first_run_number", 0),
            "overwrite": stage,
            "unstamped_run": job.unstamped_run,
            "settings": settings,
        },
    )
    return job


def _settings_of(job: JobConfig) -> dict[str, Any]:
    """Return what a job pins for a new dataset."""
    embedding, layout = job.embedding.facts(), job.layout_facts()
    return {
        "embedding_digest": digest_of(embedding),
        "embedding": embedding,
        "layout_digest": digest_of(layout),
        "layout": layout,
    }


def unstamped_run(pinned: dict[str, Any]) -> str | None:
    """Return the last run of a version whose kept answers do not say of which settings they are.

    None where no such run has written to the dataset, by what is pinned for it.
    """
    run: str | None = pinned.get("unstamped_run")
    return pinned.get("last_run_id") if pinned.get("format_version") == 1 else run


def check_held(dataset: Dataset, job: JobConfig) -> None:
    """Return if a run still holds its dataset; takes one small read.

    Raises:
        OutputTaken: another run has taken the dataset, or run.json is gone.
    """
    pinned = dataset.read_json(RUN_FILE)
    if pinned is None and not job.run_number:
        return  # A job without a launcher, which takes no dataset.
    holder = pinned or {}
    if (holder.get("run_number"), holder.get("last_run_id")) == (job.run_number, job.run_id):
        return
    who = f"run {holder['last_run_id']}" if "last_run_id" in holder else "another run"
    raise OutputTaken(
        f"{dataset.root}: {who} has taken over this dataset; run {job.run_id} ends, and what it "
        "committed before stays"
    )


def resumes_overwrite(dataset: Dataset, job: JobConfig) -> bool:
    """Return whether `--overwrite` goes on with an overwrite that the same settings began.

    It does until the dataset is complete; after that `--overwrite` deletes it again.
    """
    pinned = _read_or_damaged(dataset)
    if pinned is None or pinned.get("overwrite") is None or _is_complete(dataset):
        return False
    return _has_settings_of(pinned, job)


def is_deleting(dataset: Dataset) -> bool:
    """Return whether files of an overwritten dataset may be left."""
    return (_read(dataset) or {}).get("overwrite") == Overwrite.DELETING


def note_deleted(dataset: Dataset) -> None:
    """Note that all files of the overwritten dataset are gone."""
    _note_overwrite(dataset, Overwrite.EMBEDDING)


def end_overwrite(dataset: Dataset) -> None:
    """Note that an overwrite is over, if the dataset is complete."""
    pinned = _read_or_damaged(dataset) or {}
    if pinned.get("overwrite") is not None and _is_complete(dataset):
        _note_overwrite(dataset, None)


def _note_overwrite(dataset: Dataset, stage: Overwrite | None) -> None:
    _write(dataset, {**read(dataset), "overwrite": stage})


def _is_complete(dataset: Dataset) -> bool:
    return atomic_files.read_bytes(dataset.filesystem, dataset.path(SUCCESS)) is not None


def read(dataset: Dataset) -> dict[str, Any]:
    """Return what is pinned for a dataset that is there.

    Raises:
        ConfigError: there is no dataset, its run.json is lost, or it is of another format.
        OutputError: its run.json is damaged.
    """
    pinned = _read(dataset)
    if pinned is None:
        _refuse_without_pins(dataset)
        raise ConfigError(
            f"{dataset.root}: there is no dataset; `bulkembed run --output` makes one"
        )
    return pinned


def check(dataset: Dataset, job: JobConfig) -> dict[str, Any] | None:
    """Return what is pinned for the dataset; None where there is no dataset yet.

    Raises:
        ConfigError: the dataset cannot take this run's rows, or its run.json is lost.
    """
    pinned = _read(dataset)
    if pinned is None:
        _refuse_without_pins(dataset)
        return None
    embedding, layout = _all_differences(pinned, job)
    if not embedding and not layout:
        return pinned
    if not _is_paid_for(dataset, pinned):
        return pinned  # A first run that was refused, or an empty input: nothing to mix.
    if embedding:
        raise ConfigError(
            f"{dataset.root} holds vectors or paid answers that cannot be mixed with those of this "
            f"run: {'; '.join(embedding)}; choose another --output, or the same settings"
        )
    _refuse_undecoded(dataset, pinned, job)
    raise ConfigError(
        f"{dataset.root} has other columns than this run would write: {'; '.join(layout)}; the "
        "vectors are comparable and could be kept: choose the same columns, or another --output"
    )


def _refuse_without_pins(dataset: Dataset) -> None:
    """Raise ConfigError if there are parts or records, but nothing says how they were made."""
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
        "Copying tools often leave out folders whose names begin with _: bring _run back from "
        "where the dataset came from, or choose another --output, or delete the dataset and start "
        "again with --overwrite"
    )
    if read_copy(dataset) is not None:
        cure = REPAIR
    raise ConfigError(
        f"{dataset.root} holds {len(found):,} files of a dataset, such as {found[0]}, but "
        f"{RUN_FILE}, which says how they were made, is missing; nothing was changed. {cure}"
    )


def kept_types(dataset: Dataset) -> dict[str, str] | None:
    """Return the pinned types of the kept columns, as Arrow writes them; None for no dataset."""
    pinned = _read(dataset)
    return None if pinned is None else dict(pinned["layout"]["kept"])


def template_of(pinned: dict[str, Any]) -> str | None:
    """Return the template that texts were made with; None where they are one column's values."""
    is_template = pinned["settings"].get("text_template") is not None
    return str(pinned["layout"]["text"]) if is_template else None


def template_warning(pinned: dict[str, Any]) -> str | None:
    r"""Return the warning for a dataset whose texts hold `\n` as two characters; else None."""
    template = template_of(pinned)
    if template is None or not has_undecoded_escapes(template):
        return None
    return (
        rf"the texts hold a backslash and a letter where the template '{template}' most likely "
        r"means a line break or a tab: earlier versions did not decode \n, \t and \r in "
        "--text-template. To embed the right texts, run the same command with another --output"
    )


def _refuse_undecoded(dataset: Dataset, pinned: dict[str, Any], job: JobConfig) -> None:
    r"""Raises ConfigError where only the decoding of `\n` makes this template another one."""
    template = template_of(pinned)
    if template is None or not has_undecoded_escapes(template):
        return
    if decode_template(template) == job.columns.text_template:
        raise ConfigError(
            f"{dataset.root} was made by an earlier version, which did not decode the escapes of "
            f"--text-template '{template}': its texts hold a backslash and a letter where this "
            "run sends a line break or a tab. To embed the right texts, choose another --output, "
            "or --overwrite, which pays for all rows again. To go on with the texts as they are, "
            f"write --text-template '{encode_template(template)}'"
        )


def _is_paid_for(dataset: Dataset, pinned: dict[str, Any]) -> bool:
    """Return whether a call was answered with the settings that are pinned."""
    if pinned.get("overwrite") == Overwrite.DELETING:
        return False  # What is there was made with earlier settings, and is to be deleted.
    if dataset.state().records:
        return True
    digest, run = pinned["embedding_digest"], unstamped_run(pinned)
    return kept_answers.holds_answers(dataset, digest, run) or _paid_tokens(dataset) > 0


def _paid_tokens(dataset: Dataset) -> int:
    """Return what the account says; 0 where there is none, or it is damaged."""
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
            f"{dataset.root} was written in format {version}; this version reads formats "
            f"{OLDEST_FORMAT} to {FORMAT_VERSION}. Use a newer bulkembed, or another --output"
        )
    try:
        _check_content(pinned)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise dataset.damaged_file(RUN_FILE, repr(error)) from None
    return pinned


def _read_or_damaged(dataset: Dataset) -> dict[str, Any] | None:
    """Return what is pinned; None where that is damaged: an overwrite starts again with it."""
    try:
        return _read(dataset)
    except OutputError as error:
        if error.facts.get("damaged"):
            return None
        raise


def _has_settings_of(pinned: dict[str, Any], job: JobConfig) -> bool:
    """Return whether what is pinned, if anything, is what a job would pin.

    The facts are compared, not their digests: a later version may know of more facts.
    """
    return bool(pinned) and _all_differences(pinned, job) == ([], [])


def _all_differences(pinned: dict[str, Any], job: JobConfig) -> tuple[list[str], list[str]]:
    """Return the differences of the embedding, and of the layout."""
    embedding = _differences(pinned["embedding"], job.embedding.facts())
    return embedding, _differences(pinned["layout"], job.layout_facts())


def _differences(pinned: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    return [
        f"{name} is {pinned.get(name)!r} there and {wanted.get(name)!r} here"
        for name in sorted(pinned.keys() | wanted.keys())
        if pinned.get(name) != wanted.get(name)
    ]


def _write(dataset: Dataset, pinned: dict[str, Any]) -> None:
    """Write `run.json`, and before it the copy that a damaged one is repaired from."""
    dataset.write_json(COPY, pinned)
    dataset.write_json(RUN_FILE, pinned)


def read_copy(dataset: Dataset) -> bytes | None:
    """Return the content of the copy of `run.json`; None where it is not there, or damaged."""
    data = atomic_files.read_bytes(dataset.filesystem, dataset.path(COPY))
    try:
        _check_content(orjson.loads(data or b""))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return data


def lost(dataset: Dataset) -> ConfigError:
    """Return the error for a dataset of which nobody knows how it was made."""
    return ConfigError(
        f"{dataset.root}: {RUN_FILE} is missing or damaged, and so is its copy, {COPY}: nobody "
        "knows with which settings the vectors were made. Bring one of the two files back from a "
        "copy of the dataset, or choose another --output, or delete the dataset and start again "
        "with --overwrite"
    )


def _check_content(pinned: dict[str, Any]) -> None:
    """Raise a ValueError, KeyError, TypeError or AttributeError if it is not what `pin` writes."""
    if type(pinned["format_version"]) is not int:
        raise TypeError("'format_version' is no number")
    for name in ("embedding", "layout", "settings"):
        if not isinstance(pinned[name], dict):
            raise TypeError(f"{name!r} is no JSON object")
    for name in ("bulkembed_version", "created", "last_run_id"):
        if not isinstance(pinned[name], str):
            raise TypeError(f"{name!r} is no text")
    for name in ("run_number", "first_run_number"):
        if type(pinned.get(name, 0)) is not int:
            raise TypeError(f"{name!r} is no number")
    for name in ("embedding", "layout"):
        if pinned[f"{name}_digest"] != digest_of(pinned[name]):
            raise ValueError(f"{name!r} does not fit its digest")
