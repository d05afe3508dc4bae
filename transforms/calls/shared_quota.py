"""A quota mirror in a locked file, shared by all processes of a user on a host.

POSIX only (`fcntl.flock`). When a process dies, the kernel releases its lock, and its calls in
flight expire, so a crash blocks nothing. The file contains numbers; neither the file nor its name
reveals the key. The file is kept after the run, so that the next run knows the use of the last
minute and of the day.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from bulkembed.schemas.errors import ConfigError
from bulkembed.transforms.core.quota_mirror import QuotaMirror

OUTDATED_S = 3 * 86400.0
"""A file that was not written for this long is out of date."""
log = logging.getLogger("bulkembed")

_MAX_BYTES = 1 << 20
_PERSON = b"bulkembed-quota"


class Quota(Protocol):
    """Access to a mirror: in a file for all processes, or in this process only."""

    def transaction(self) -> contextlib.AbstractContextManager[QuotaMirror]:
        """Lock the mirror; store its changes at the end. Do not await inside."""

    def close(self) -> None:
        """Release resources; may be called twice."""


def secret_digest(secret: str) -> str:
    """Return 16 hex digits that identify a secret without revealing it."""
    return hashlib.blake2b(secret.encode(), digest_size=8, person=_PERSON).hexdigest()


def quota_file(base_url: str, owner: str, model: str, folder: Path | None = None) -> Path:
    """Return the file of a quota; `owner` is a project, a quota name, or a key's digest."""
    parts = "\n".join(f"{len(part)}:{part}" for part in (base_url.rstrip("/"), owner, model))
    return (folder or default_folder()) / f"{secret_digest(parts)}.quota"


def default_folder() -> Path:
    """Return `$XDG_CACHE_HOME/bulkembed/quota`, or `~/.cache/...`, or a temporary folder.

    It is not $XDG_RUNTIME_DIR, which is emptied when the user logs out: the day's count would be
    lost.

    Raises:
        ConfigError: the folder belongs to another user.
    """
    cache = os.environ.get("XDG_CACHE_HOME", "")
    with contextlib.suppress(RuntimeError, OSError):
        base = Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache"
        return _private(base / "bulkembed" / "quota")
    return _private(Path(tempfile.gettempdir()) / f"bulkembed-quota-{os.getuid()}")


def _private(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.getuid():
        raise ConfigError(f"{folder} belongs to another user. Remove it, or set XDG_CACHE_HOME.")
    if status.st_mode & 0o077:
        folder.chmod(0o700)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder} cannot be written")
    return folder


def _remove_old(folder: Path) -> None:
    """Delete the files of quotas that are no longer used, such as those of local servers.

    A process that still has such a file open detects that (`_locked_file`) and makes a new one.
    """
    for path in folder.glob("*.quota"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > OUTDATED_S:
                path.unlink()


class SharedQuota:
    """A mirror in a file that all processes of this user on this host share.

    A transaction takes 20 to 50 µs. It is safe for threads and after a fork. A damaged file, or one
    of another version, counts as empty. Times must come from the wall clock (`time.time`).
    """

    def __init__(self, mirror: QuotaMirror, path: Path) -> None:
        self.path = path
        self._mirror = mirror
        self._lock = threading.Lock()
        self._file = -1
        self._pid = 0
        self._last_bytes = b""
        self._has_worked = False
        self._warned = False

    @contextlib.contextmanager
    def transaction(self) -> Iterator[QuotaMirror]:
        """Lock the mirror, with the newest state; store changes unless the body raises.

        If the file fails later (a full disk, a home without locks), this process continues with
        its own state and logs that once: a quota that is not shared is better than a job that
        hangs.

        Raises:
            ConfigError: the file cannot be opened the first time.
        """
        with self._lock:
            file = self._begin()
            try:
                yield self._mirror
                self._store(file)
            except BaseException:
                self._last_bytes = b""
                raise
            finally:
                if file is not None:
                    fcntl.flock(file, fcntl.LOCK_UN)

    def _begin(self) -> int | None:
        """Return the locked file after loading its state; None if that fails."""
        try:
            file = self._locked_file()
            self._load(file)
        except (OSError, ConfigError) as error:
            if not self._has_worked and isinstance(error, ConfigError):
                raise
            self._warn(error)
            self._close()  # This releases the lock, which others may wait for.
            return None
        self._has_worked = True
        return file

    def _store(self, file: int | None) -> None:
        if file is None:
            return
        try:
            self._last_bytes = self._mirror.to_bytes()
            os.pwrite(file, self._last_bytes, 0)
        except OSError as error:
            self._last_bytes = b""
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            log.warning(
                "%s: %s. Other processes do not see the calls of this one.", self.path, error
            )
        self._warned = True

    def close(self) -> None:
        """Close the file, which keeps the state."""
        with self._lock:
            self._close()

    def _load(self, file: int) -> None:
        data = os.pread(file, _MAX_BYTES, 0)
        if not self._last_bytes or not data.startswith(self._last_bytes):
            self._mirror.load(data)

    def _locked_file(self) -> int:
        """Return the open file, locked; reopen it after a fork, or if it was deleted."""
        while True:
            if self._pid != os.getpid():
                self._close()
                self._open()
            fcntl.flock(self._file, fcntl.LOCK_EX)
            if os.fstat(self._file).st_nlink:
                return self._file
            self._close()

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            _remove_old(self.path.parent)
            self._file = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise ConfigError(f"the quota file {self.path} cannot be opened: {error}") from error
        self._pid = os.getpid()

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file, self._pid, self._last_bytes = -1, 0, b""


class LocalQuota:
    """A mirror for the threads of this process only."""

    def __init__(self, mirror: QuotaMirror) -> None:
        self._mirror = mirror
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[QuotaMirror]:
        """Lock the mirror."""
        with self._lock:
            yield self._mirror

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
