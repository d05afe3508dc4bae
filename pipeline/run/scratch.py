"""Temporary folders: where a run puts its own, and how those of dead runs are removed."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import orjson

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.job import ProcessId
from bulkembed.schemas.serialization import from_plain, to_plain
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.processes import is_gone, this_process

PREFIX = "bulkembed-"
IN_DATASET = "_run/tmp"
_OWNER = "owner.json"


@contextlib.contextmanager
def usable(dataset: Dataset) -> Iterator[None]:
    """Make sure that there is a temporary directory, for libraries as well.

    Where none can be written to, one in the dataset's `_run` takes its place.

    Raises:
        ConfigError: there is none, and the dataset is on a store.
    """
    if _is_there_one():
        yield
        return
    if dataset.is_on_a_store:
        raise ConfigError(
            "no temporary directory can be written to (/tmp, /var/tmp and the current one were "
            "tried); set TMPDIR to a folder that can"
        )
    folder = Path(dataset.path(IN_DATASET))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"no temporary directory can be written to, and {folder} cannot be made: "
            f"{error.strerror}; set TMPDIR to a folder that can be written to"
        ) from None
    before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
        if variable is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = variable
        with contextlib.suppress(OSError):
            folder.rmdir()  # What is shared with later runs stays there, such as the quota's file.


def _is_there_one() -> bool:
    try:
        tempfile.gettempdir()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Give a folder for what the processes of a run share; those of dead runs are removed."""
    _remove_dead(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name:
        place = Path(name)
        (place / _OWNER).write_bytes(orjson.dumps(to_plain(this_process())))
        yield place


def _remove_dead(place: Path) -> None:
    """Remove the folders of runs of this user that have provably ended.

    Other hosts and containers may share the directory: nothing can be known of their processes,
    and their folders stay.
    """
    for found in place.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, ValueError, TypeError):
            status = found.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid():
                owner = from_plain(orjson.loads((found / _OWNER).read_bytes()), ProcessId)
                if is_gone(owner):
                    shutil.rmtree(found, ignore_errors=True)
