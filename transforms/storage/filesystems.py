"""Which file system a path or URI means, and the path on it."""

from __future__ import annotations

import functools
import os
import re
import urllib.parse
from typing import NamedTuple

import pyarrow as pa
import pyarrow.fs as pafs

from schemas.errors import ConfigError, InputError
from schemas.inputs import FoundFile
from schemas.secrets import without_credentials
from transforms.core.file_names import readable_name
from transforms.storage.local_input import LocalInput
from transforms.storage.store_errors import said
from transforms.storage.stores import kind_of, open_uri

_LOCAL_INPUT = LocalInput()
SCHEMES = ("file", "s3", "gs", "gcs", "abfs", "abfss", "az")
_ALLOWED = "a local path, file://, s3://, gs://, abfs:// or az://"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_OPTIONS = re.compile(r"\?([A-Za-z_]\w*=[^?*\[\]]*)$")
_OPTION_NAME = re.compile(r"[?&]([^=&?/]+)=")
_HARMLESS = re.compile(r"(region|anonymous|force_virtual_addressing|project_id)=[\w-]*", re.ASCII)
_SECRET = re.compile(r"secret|token|passw|key|sig|credential", re.IGNORECASE)


class Location(NamedTuple):
    """A path taken apart: `store` opens the file system ("" for local), `path` is the rest.

    A local path is absolute.  A store's path begins with its bucket or container, as pyarrow.fs
    wants it.
    """

    store: str
    path: str


def open_filesystem(path_or_uri: str) -> tuple[pafs.FileSystem, str]:
    """The file system of a path or URI, and the path to open on it.

    Local paths are taken literally (`~` apart), whatever characters they hold; `file://` URIs are
    percent-decoded.  Keys of a store are literal too, as the stores' own tools take them; options
    come last: `s3://bucket/key?region=eu-west-1`, see `stores.OPTIONS`.

    Raises:
        ConfigError: another scheme, credentials in the URI, or a store that cannot be opened.
    """
    location = locate(path_or_uri)
    if not location.store and not os.fsencode(location.path).isascii():
        _refuse_other_bytes(location.path)
    return open_store(location.store), location.path


def _refuse_other_bytes(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"the path {readable_name(path)} is not UTF-8, which only input may be; choose another"
        ) from None


def open_found(found: FoundFile) -> pafs.FileSystem:
    """The file system that `found.path` is on; one object a process and store."""
    return open_input(found.store)


def open_input(store: str) -> pafs.FileSystem:
    """The file system of input files; local paths on it are readable forms, see `file_names`."""
    return open_store(store) if store else _LOCAL_INPUT


def locate(path_or_uri: str) -> Location:
    """A path or URI taken apart; nothing is opened, and a glob's characters are left alone.

    Raises:
        ConfigError: an unknown scheme, a host in a `file://` URI, or credentials in a URI.
    """
    if not path_or_uri:
        raise ConfigError(f"the path is empty; give {_ALLOWED}")
    match = _SCHEME.match(path_or_uri)
    if match is None:
        return Location("", os.path.abspath(os.path.expanduser(path_or_uri)))  # noqa: PTH100, PTH111 - pathlib cannot tidy `..`
    scheme = match[1].lower()
    if scheme not in SCHEMES:
        raise ConfigError(f"{scheme}:// is no known kind of path; give {_ALLOWED}")
    rest = path_or_uri[match.end() :]
    if scheme == "file":
        return Location("", _file_path(path_or_uri, rest))
    return _store_location(scheme, rest)


def names_a_host(path_or_uri: str) -> bool:
    """Return whether a path could send a store's credentials to another host than the store's own.

    Its options could: an endpoint, a scheme without TLS.  Only those that cannot are let through.
    """
    match = _SCHEME.match(path_or_uri)
    options = path_or_uri.partition("?")[2]
    if match is None or match[1].lower() == "file" or not options:
        return False
    return not all(_HARMLESS.fullmatch(option) for option in options.split("&"))


def _file_path(uri: str, rest: str) -> str:
    host, slash, path = rest.partition("/")
    if host not in ("", "localhost") or not slash:
        shown = without_credentials(uri)
        raise ConfigError(f"{shown}: a file URI has three slashes and no host: file:///data/in")
    path = os.fsdecode(urllib.parse.unquote_to_bytes(path))
    return os.path.abspath("/" + path)  # noqa: PTH100 - pathlib cannot tidy `..`


def _store_location(scheme: str, rest: str) -> Location:
    _refuse_secrets(scheme, rest)
    options = _OPTIONS.search(rest)
    query = options[0] if options is not None else ""
    authority, _, key = rest[: len(rest) - len(query)].partition("/")
    before, at, after = authority.rpartition("@")
    # abfs://container@account names the container first; gs://anonymous@bucket the bucket last.
    bucket = before if at and kind_of(scheme) == "az" else after
    if not bucket:
        raise ConfigError(f"{scheme}:///{key}: the bucket is missing; give {scheme}://bucket/path")
    return Location(f"{scheme}://{authority}/{query}", "/".join(filter(None, (bucket, key))))


def _refuse_secrets(scheme: str, rest: str) -> None:
    user = rest.partition("/")[0].rpartition("@")[0]
    if ":" in user or any(_SECRET.search(name) for name in _OPTION_NAME.findall(rest)):
        raise ConfigError(
            f"a {scheme}:// path holds credentials, which would be written into the plan; "
            "give them by the environment or the store's own settings file"
        )


@functools.lru_cache(maxsize=32)
def open_store(store: str) -> pafs.FileSystem:
    """The file system that `Location.store` or `FoundFile.store` names.

    Raises:
        ConfigError: the store cannot be opened from here.
    """
    if not store:
        return pafs.LocalFileSystem()
    try:
        return open_uri(store)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(
            f"{store} cannot be opened: {said(error)}; check the name, the network and the "
            "credentials, or name the region: s3://bucket/path?region=eu-west-1"
        ) from error


def file_info(filesystem: pafs.FileSystem, path: str) -> pafs.FileInfo:
    """What stands at a path; `type` is NotFound where nothing does.

    Raises:
        InputError: the store or the folder does not let us look.
    """
    try:
        return filesystem.get_file_info(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be looked at: {said(error)}", path=path) from error
    except UnicodeEncodeError as error:
        raise InputError(f"the path {path!r} is no UTF-8; rename it", path=path) from error
