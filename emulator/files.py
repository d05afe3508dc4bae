"""The Files API's contents: uploads in pieces, and files that expire."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import hashlib
import re
import secrets
import shutil
import string
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from bulkembed.emulator.api_errors import ApiError, invalid
from bulkembed.emulator.batch_settings import BatchSettings
from bulkembed.emulator.quotas import Clock

_CHUNK = 1 << 20
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


class FileBytes(Protocol):
    """The bytes of a file."""

    @property
    def size(self) -> int:
        """The number of bytes."""
        ...

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from `start` to before `end`."""
        ...

    def delete(self) -> None:
        """Free the bytes. Readers that have begun go on."""
        ...


class DiskBytes:
    """Bytes on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from `start` to before `end`."""
        with self.path.open("rb") as file:
            file.seek(start)
            while start < end and (piece := file.read(min(_CHUNK, end - start))):
                start += len(piece)
                yield piece

    def delete(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)


@dataclasses.dataclass
class StoredFile:
    """A file of the service."""

    number: int
    """Files have growing numbers."""
    id: str
    display_name: str | None
    mime_type: str
    content: FileBytes
    created: float
    expires: float
    """When it expires, or was deleted."""
    sha256: str = ""
    generated: bool = False

    @property
    def name(self) -> str:
        """The name of the resource."""
        return f"files/{self.id}"

    def as_json(self, base: str) -> dict[str, object]:
        """Return the resource; `base` is the URL up to the version."""
        body: dict[str, object] = {"name": self.name}
        if self.display_name:
            body["displayName"] = self.display_name
        body |= {
            "mimeType": self.mime_type,
            "sizeBytes": str(self.content.size),
            "createTime": timestamp(self.created),
            "updateTime": timestamp(self.created),
            "expirationTime": timestamp(self.expires),
        }
        if self.sha256:
            body["sha256Hash"] = base64.b64encode(self.sha256.encode()).decode()
        body |= {"uri": f"{base}/{self.name}", "state": "ACTIVE"}
        body["source"] = "GENERATED" if self.generated else "UPLOADED"
        if self.generated:
            body["downloadUri"] = f"{base}/{self.name}:download?alt=media"
        return body


class Upload:
    """A resumable upload: what has arrived is kept."""

    def __init__(self, path: Path, id: str, display_name: str | None, mime: str, size: int) -> None:
        self.path, self.id, self.display_name = path, id, display_name
        self.mime_type, self.size = mime, size
        self.received = 0
        self.busy = False
        self.file: StoredFile | None = None
        self._hash = hashlib.sha256()
        path.touch()

    @property
    def sha256(self) -> str:
        """The hash of what has arrived, in hexadecimal."""
        return self._hash.hexdigest()

    def append(self, piece: bytes) -> None:
        """Add bytes at the end."""
        with self.path.open("ab") as file:
            file.write(piece)
        self._hash.update(piece)
        self.received += len(piece)


class FileStore:
    """The files and uploads of one server. Files are gone when their time is over."""

    def __init__(self, settings: BatchSettings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._folder: Path | None = None
        self._lock = threading.Lock()
        self._files: dict[str, StoredFile] = {}
        self._count = 0
        self.uploads: dict[str, Upload] = {}

    def start(self, name: str | None, display_name: str | None, mime: str, size: int) -> str:
        """Begin an upload; return its id."""
        if name is not None and not _NAME.fullmatch(name):
            raise invalid(
                "* CreateFileRequest.file.name: a file ID has at most 40 lowercase letters, "
                "digits and dashes, and begins and ends without a dash\n"
            )
        if size > self._settings.file_bytes:
            raise invalid(
                f"File size {size} exceeds the limit of {self._settings.file_bytes} bytes."
            )
        id = name or new_id(12)
        self.check_free(id)
        upload = secrets.token_hex(16)
        self.uploads[upload] = Upload(self.new_path(), id, display_name, mime, size)
        return upload

    def check_free(self, id: str) -> None:
        """Raise 409 if there is a file with that id."""
        if id in self.files():
            raise ApiError(409, f"The file files/{id} already exists.", status="ALREADY_EXISTS")

    def finish(self, upload: Upload) -> StoredFile:
        """Make a file of a complete upload."""
        self.check_free(upload.id)
        upload.file = self.add(
            upload.id, DiskBytes(upload.path), upload.mime_type, upload.display_name,
            self._settings.file_expire_s, sha256=upload.sha256,
        )  # fmt: skip
        return upload.file

    def add(
        self, id: str, content: FileBytes, mime: str, display_name: str | None, lives_s: float,
        *, sha256: str = "", generated: bool = False,
    ) -> StoredFile:  # fmt: skip
        """Add a file."""
        self._count += 1
        now = self._clock.now()
        file = StoredFile(
            self._count, id, display_name, mime, content, now, now + lives_s, sha256, generated
        )
        self._files[id] = file
        return file

    def files(self) -> dict[str, StoredFile]:
        """Return the files that have not expired, by id."""
        now = self._clock.now()
        for id in [id for id, file in list(self._files.items()) if file.expires <= now]:
            self._files.pop(id).content.delete()
        return self._files

    def get(self, id: str) -> StoredFile:
        """Return a file; raise ApiError if there is none."""
        file = self.files().get(id)
        if file is None:
            status = self._settings.missing_file
            raise ApiError(
                status,
                f"You do not have permission to access the File {id} or it may not exist."
                if status == 403
                else "Requested entity was not found.",
            )
        return file

    def delete(self, id: str) -> StoredFile:
        """Delete a file, and return it."""
        file = self.get(id)
        file.expires = self._clock.now()
        del self._files[id]
        file.content.delete()
        return file

    def new_path(self) -> Path:
        """Return the path of a new file on disk."""
        with self._lock:
            return self._make_folder() / secrets.token_hex(8)

    def _make_folder(self) -> Path:
        if self._folder is None:
            parent = self._settings.folder
            if parent is not None:
                Path(parent).mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix="bulkembed-emulator-", dir=parent))
        return self._folder

    def close(self) -> None:
        """Delete everything."""
        self._files.clear()
        self.uploads.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def timestamp(seconds: float) -> str:
    """Return a time as Google's JSON writes it."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def new_id(length: int) -> str:
    """Return a random id of lowercase letters and digits."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(length))


def page(
    values: list[Any], size: str | None, token: str | None, default: int, most: int
) -> tuple[list[Any], str | None]:
    """Return a page of values with a `number`, newest first, and the token of the next page.

    A token is the number of the last value of its page, so that new values do not move pages.
    """
    try:
        count, before = min(int(size or 0) or default, most), int(token) if token else None
    except ValueError:
        raise invalid("page_size and page_token must be ones that the service gave.") from None
    if count < 1:
        raise invalid("page_size must not be negative.")
    ordered = sorted(values, key=lambda one: -int(one.number))
    rest = [one for one in ordered if before is None or one.number < before]
    following = str(rest[count - 1].number) if len(rest) > count else None
    return rest[:count], following
