"""Temporary folders of runs, and the removal of those that dead runs left behind."""

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
    """Make sure that there is a writable temporary directory, for libraries as well.

    If the system has none, a folder in the dataset's `_run` is used.

    Raises:
        ConfigError: there is none, and the dataset is on a store.
    """
    if _has_temp_dir():
        yield
        return
    if dataset.is_on_a_store:
        raise ConfigError(
            "no writable temporary directory (tried /tmp, /var/tmp and the current one). Set "
            "TMPDIR to a writable folder."
        )
    folder = Path(dataset.path(IN_DATASET))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"no writable temporary directory, and {folder} cannot be created: {error.strerror}. "
            "Set TMPDIR to a writable folder."
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
            folder.rmdir()  # Fails if it has files for later runs, such as the quota file.


def _has_temp_dir() -> bool:
    try:
        tempfile.gettempdir()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Yield a folder that the processes of a run share; removes the folders of dead runs."""
    _remove_dead(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name:
        place = Path(name)
        (place / _OWNER).write_bytes(orjson.dumps(to_plain(this_process())))
        yield place


def _remove_dead(place: Path) -> None:
    """Remove the folders of this user's runs that have certainly ended.

    Other hosts and containers may share the directory. Their processes cannot be checked, so
    their folders are kept.
    """
    for found in place.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, ValueError, TypeError):
            status = found.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid():
                owner = from_plain(orjson.loads((found / _OWNER).read_bytes()), ProcessId)
                if is_gone(owner):
                    shutil.rmtree(found, ignore_errors=True)
