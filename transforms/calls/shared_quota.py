"""One mirror of a quota for all processes of a user on a host: a locked file, and no service.

POSIX only (`fcntl.flock`). The kernel takes the lock off a process that dies, and what it had in
the air expires by time, so a crash leaves nothing stuck. The file holds numbers; neither it nor its
name tells the key. It outlives the run, so that the next one knows the minute and the day.
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

OLD_S = 3 * 86400.0
"""A file that nobody has written for so long holds nothing that counts any more."""
log = logging.getLogger("bulkembed")

_MOST_BYTES = 1 << 20
_PERSON = b"bulkembed-quota"


class Quota(Protocol):
    """Where a mirror lives: in a file for all processes, or in this one only."""

    def transaction(self) -> contextlib.AbstractContextManager[QuotaMirror]:
        """The mirror, for nobody else meanwhile; what was changed is kept. Never await inside."""

    def close(self) -> None:
        """Let go of what is open; may be called twice."""


def secret_digest(secret: str) -> str:
    """16 hex digits that tell two keys apart without telling the key."""
    return hashlib.blake2b(secret.encode(), digest_size=8, person=_PERSON).hexdigest()


def quota_file(base_url: str, owner: str, model: str, folder: Path | None = None) -> Path:
    """The file for one quota; `owner` is a project, a `secret_digest` of a key, or a quota name."""
    parts = "\n".join(f"{len(part)}:{part}" for part in (base_url.rstrip("/"), owner, model))
    return (folder or default_folder()) / f"{secret_digest(parts)}.quota"


def default_folder() -> Path:
    """`$XDG_CACHE_HOME/bulkembed/quota` or `~/.cache/...`; a temporary one where there is no home.

    Not $XDG_RUNTIME_DIR: it is emptied when the user logs out, and the day's count with it.
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
        raise ConfigError(f"{folder}: belongs to another user; remove it, or set XDG_CACHE_HOME")
    if status.st_mode & 0o077:
        folder.chmod(0o700)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder}: cannot be written")
    return folder


def _remove_old(folder: Path) -> None:
    """Clears away files of quotas that are no longer used, such as those of dead local servers.

    Whoever has one open still finds it gone (`_locked_file`), and makes it anew.
    """
    for path in folder.glob("*.quota"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > OLD_S:
                path.unlink()


class SharedQuota:
    """A mirror in a file that all processes of this user on this host share.

    Some 20 to 50 µs a transaction. Safe for threads and after a fork. A file of another version, or
    a damaged one, is taken as empty. Time must come from the wall clock (`time.time`).
    """

    def __init__(self, mirror: QuotaMirror, path: Path) -> None:
        self.path = path
        self._mirror = mirror
        self._lock = threading.Lock()
        self._file = -1
        self._pid = 0
        self._known = b""
        self._worked = False
        self._warned = False

    @contextlib.contextmanager
    def transaction(self) -> Iterator[QuotaMirror]:
        """The mirror with the newest state; changes are stored unless the body raises.

        Where the file fails (a full disk, a home without locks), this process goes on with what
        it knows, and says so once: a quota that is not shared is better than a job that hangs.

        Raises: ConfigError if the file cannot be opened in the first place.
        """
        with self._lock:
            file = self._begin()
            try:
                yield self._mirror
                self._store(file)
            except BaseException:
                self._known = b""
                raise
            finally:
                if file is not None:
                    fcntl.flock(file, fcntl.LOCK_UN)

    def _begin(self) -> int | None:
        """The locked file, its state loaded; None where it fails."""
        try:
            file = self._locked_file()
            self._load(file)
        except (OSError, ConfigError) as error:
            if not self._worked and isinstance(error, ConfigError):
                raise
            self._warn(error)
            self._close()  # And with the file its lock, which others may wait for.
            return None
        self._worked = True
        return file

    def _store(self, file: int | None) -> None:
        if file is None:
            return
        try:
            self._known = self._mirror.to_bytes()
            os.pwrite(file, self._known, 0)
        except OSError as error:
            self._known = b""
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            log.warning("%s: %s; other processes do not see this one's calls", self.path, error)
        self._warned = True

    def close(self) -> None:
        """Close the file; the state stays in it."""
        with self._lock:
            self._close()

    def _load(self, file: int) -> None:
        data = os.pread(file, _MOST_BYTES, 0)
        if not self._known or not data.startswith(self._known):
            self._mirror.load(data)

    def _locked_file(self) -> int:
        """The open file, locked; opened anew after a fork, and where somebody removed it."""
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
            raise ConfigError(f"{self.path}: the quota file cannot be opened: {error}") from error
        self._pid = os.getpid()

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file, self._pid, self._known = -1, 0, b""


class LocalQuota:
    """A mirror for the threads of this process only, with the same face."""

    def __init__(self, mirror: QuotaMirror) -> None:
        self._mirror = mirror
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[QuotaMirror]:
        """The mirror, for nobody else meanwhile."""
        with self._lock:
            yield self._mirror

    def close(self) -> None:
        """There is nothing to let go of."""
