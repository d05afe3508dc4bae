"""`_run/run.json`: what is pinned for a dataset, so that nothing is mixed into it."""

from __future__ import annotations

import datetime as dt
from typing import Any

import orjson

from schemas.embedding import digest_of
from schemas.errors import ConfigError
from schemas.job import JobConfig
from transforms.storage import whole_files
from transforms.storage.dataset import (
    DEAD_LETTERS,
    RUN_FILE,
    SPILL,
    UNITS,
    VECTORS,
    Dataset,
)
from transforms.storage.part_files import is_part_name
from transforms.storage.text_recipe import decode_template, encode_template, has_undecoded_escapes
from transforms.storage.whole_files import REPAIR

COPY = "_run/run.copy.json"
"""What `run.json` said when it was last written: a damaged one is repaired from it."""
FORMAT_VERSION = 2
"""Of what a run writes.  2: the names of records and parts have the number of their run."""
OLDEST_FORMAT = 1
"""That a run goes on with."""


def pin(dataset: Dataset, job: JobConfig, settings: dict[str, Any]) -> None:
    """Pins the two digests of a new dataset, or holds a run against those of an old one.

    Args:
        dataset: the output.
        job: what this run is about to do.
        settings: the options of the run, for people; without a secret.

    Raises:
        ConfigError: the dataset was made with other settings.
    """
    pinned = check(dataset, job) or {}
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    embedding, layout = job.embedding.facts(), job.layout_facts()
    _write(
        dataset,
        {
            "format_version": FORMAT_VERSION,
            "bulkembed_version": job.version,
            "created": pinned.get("created", now),
            "embedding_digest": digest_of(embedding),
            "embedding": embedding,
            "layout_digest": digest_of(layout),
            "layout": layout,
            "last_run_id": job.run_id,
            "settings": settings,
        },
    )


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
    embedding = _differences(pinned["embedding"], job.embedding.facts())
    layout = _differences(pinned["layout"], job.layout_facts())
    if not embedding and not layout:
        return pinned
    if not dataset.names(UNITS) and not dataset.names(SPILL):
        return pinned  # Not one row is there: a first run that was refused, or an empty input.
    if embedding:
        raise ConfigError(
            f"{dataset.root} holds vectors that cannot be mixed with those of this run: "
            f"{'; '.join(embedding)}; choose another --output, or the same settings"
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
        "again with --fresh"
    )
    if read_copy(dataset) is not None:
        cure = f"R{REPAIR[1:]}"
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
            "or --fresh, which pays for all rows again. To go on with the texts as they are, write "
            f"--text-template '{encode_template(template)}'"
        )


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
    data = whole_files.read_bytes(dataset.filesystem, dataset.path(COPY))
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
        "with --fresh"
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
    for name in ("embedding", "layout"):
        if pinned[f"{name}_digest"] != digest_of(pinned[name]):
            raise ValueError(f"{name!r} does not fit its digest")
