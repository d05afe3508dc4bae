"""Locks of the kernel on files (`flock`), and what to do if a file system has none."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

_NOT_SUPPORTED = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})


def has_no_locks(error: OSError) -> bool:
    """Return whether an error of `flock` says that the file system has no locks.

    Lustre without `-o flock`, NFS without its lock service and some FUSE file systems say so.
    """
    return error.errno in _NOT_SUPPORTED


@contextlib.contextmanager
def locked(file: int, path: Path) -> Iterator[None]:
    """Hold a file against the other processes of this host.

    Where its file system has no locks, a file of the same name's digest in the temporary folder
    stands in for it.

    Args:
        file: the open file.
        path: its path.

    Raises:
        OSError: neither can be locked.
    """
    held = _lock(file, path)
    try:
        yield
    finally:
        if held == file:
            fcntl.flock(file, fcntl.LOCK_UN)
        else:
            os.close(held)


def _lock(file: int, path: Path) -> int:
    """The locked file: the one that was asked for, or its stand-in."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if not has_no_locks(error):
            raise
        file = _open_stand_in(path)
        fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _open_stand_in(path: Path) -> int:
    name = hashlib.blake2b(os.fsencode(path.absolute()), digest_size=16).hexdigest()
    place = Path(tempfile.gettempdir()) / f"bulkembed-{os.getuid()}-{name}.lock"
    return os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
