"""File systems: which one a path or URI names, how it is opened, and errors of its own."""

from __future__ import annotations

import datetime as dt
import functools
import os
import re
import stat
import urllib.parse
from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.fs as pafs

from bulkembed.schemas.errors import ConfigError, InputError
from bulkembed.schemas.inputs import FoundFile
from bulkembed.schemas.secrets import without_credentials
from bulkembed.transforms.core.file_names import native_name, readable_name

# A SAS token signs a URL, and Arrow's messages about Azure contain the URL.
_SIGNED = re.compile(
    r"([?&](?:sig|signature|x-amz-[a-z-]+|x-goog-[a-z-]+)=)[^&\s'\"]+", re.IGNORECASE
)
SCHEMES = ("file", "s3", "gs", "gcs", "abfs", "abfss", "az")
_ALLOWED = "a local path, file://, s3://, gs://, abfs:// or az://"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_OPTIONS = re.compile(r"\?([A-Za-z_]\w*=[^?*\[\]]*)$")
_OPTION_NAME = re.compile(r"[?&]([^=&?/]+)=")
_HARMLESS = re.compile(r"(region|anonymous|force_virtual_addressing|project_id)=[\w-]*", re.ASCII)
_SECRET = re.compile(r"secret|token|passw|key|sig|credential", re.IGNORECASE)
ATTEMPTS = 8
"""Attempts of a request to S3, by the SDK: with its growing delays they take about a minute."""
RETRY_S = 60
"""How long a request to Google Cloud Storage is retried."""

S3_ENDPOINT = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
GCS_ENDPOINT = ("STORAGE_EMULATOR_HOST", "CLOUD_STORAGE_EMULATOR_ENDPOINT")
AZURE_ACCOUNT = ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")
AZURE_KEY = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY")
AZURE_SAS = ("AZURE_STORAGE_SAS_TOKEN",)
AZURE_CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"

OPTIONS = {
    "s3": ("region", "endpoint_override", "scheme", "anonymous", "force_virtual_addressing"),
    "gs": ("endpoint_override", "scheme", "project_id"),
    "az": ("blob_storage_authority", "dfs_storage_authority", "enable_tls"),
}
"""The options after `?`, by the kind of store; the names are those of pyarrow's URIs."""


class Location(NamedTuple):
    """The store of a path, which is empty for local files, and the path on it.

    A local path is absolute. A store's path begins with its bucket or container, as pyarrow.fs
    expects.
    """

    store: str
    path: str

    @property
    def is_local(self) -> bool:
        """Whether the path is on a local disk, and not on an object store."""
        return not self.store


def open_filesystem(path_or_uri: str) -> tuple[pafs.FileSystem, str]:
    """Return the file system of a path or URI, and the path to open on it.

    Local paths are literal, except for `~`. `file://` URIs are percent-decoded. Keys of a store
    are literal, as in the stores' own tools. Options come last, as in
    `s3://bucket/key?region=eu-west-1`; see `OPTIONS`.

    Raises:
        ConfigError: an unknown scheme, credentials in the URI, or a store that cannot be opened.
    """
    location = locate(path_or_uri)
    if location.is_local and not os.fsencode(location.path).isascii():
        _reject_other_bytes(location.path)
    return open_store(location.store), location.path


def _reject_other_bytes(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"the path {readable_name(path)} is not UTF-8, which is allowed for input only. Choose "
            "another path."
        ) from None


def is_on_local_disk(filesystem: pafs.FileSystem) -> bool:
    """Return whether an opened file system is a local disk, and not an object store."""
    return isinstance(filesystem, pafs.LocalFileSystem)


def open_found(found: FoundFile) -> pafs.FileSystem:
    """Return the file system that `found.path` is on: one object per process and store."""
    return open_input(found.store)


def open_input(store: str) -> pafs.FileSystem:
    """Return the file system of input files; local paths are in the form of `file_names`."""
    return open_store(store) if store else _LOCAL_INPUT


def scheme_of(path_or_uri: str) -> str | None:
    """Return the scheme of a URI, in lower case; None for a path."""
    match = _SCHEME.match(path_or_uri)
    return match[1].lower() if match is not None else None


def locate(path_or_uri: str) -> Location:
    """Return the store of a path or URI, and the path on it, without opening anything.

    Raises:
        ConfigError: an unknown scheme, a host in a `file://` URI, or credentials in a URI.
    """
    if not path_or_uri:
        raise ConfigError(f"the path is empty. Use {_ALLOWED}.")
    scheme = scheme_of(path_or_uri)
    if scheme is None:
        return Location("", os.path.abspath(os.path.expanduser(path_or_uri)))  # noqa: PTH100, PTH111 - pathlib cannot tidy `..`
    if scheme not in SCHEMES:
        raise ConfigError(f"{scheme}:// paths are not supported. Use {_ALLOWED}.")
    rest = path_or_uri.partition("://")[2]
    if scheme == "file":
        return Location("", _file_path(path_or_uri, rest))
    return _store_location(scheme, rest)


def names_a_host(path_or_uri: str) -> bool:
    """Return whether the options of a path could send a store's credentials to another host.

    An endpoint could, or a scheme without TLS. Only options that are known not to are allowed.
    """
    options = path_or_uri.partition("?")[2]
    if scheme_of(path_or_uri) in (None, "file") or not options:
        return False
    return not all(_HARMLESS.fullmatch(option) for option in options.split("&"))


def _file_path(uri: str, rest: str) -> str:
    host, slash, path = rest.partition("/")
    if host not in ("", "localhost") or not slash:
        shown = without_credentials(uri)
        raise ConfigError(f"{shown}: a file URI must not name a host. Use file:///data/in.")
    path = os.fsdecode(urllib.parse.unquote_to_bytes(path))
    return os.path.abspath("/" + path)  # noqa: PTH100 - pathlib cannot tidy `..`


def _store_location(scheme: str, rest: str) -> Location:
    _reject_secrets(scheme, rest)
    options = _OPTIONS.search(rest)
    query = options[0] if options is not None else ""
    authority, _, key = rest[: len(rest) - len(query)].partition("/")
    before, at, after = authority.rpartition("@")
    # abfs://container@account names the container first; gs://anonymous@bucket the bucket last.
    bucket = before if at and kind_of(scheme) == "az" else after
    if not bucket:
        raise ConfigError(f"{scheme}:///{key}: the bucket is missing. Use {scheme}://bucket/path.")
    return Location(f"{scheme}://{authority}/{query}", "/".join(filter(None, (bucket, key))))


def _reject_secrets(scheme: str, rest: str) -> None:
    user = rest.partition("/")[0].rpartition("@")[0]
    if ":" in user or any(_SECRET.search(name) for name in _OPTION_NAME.findall(rest)):
        raise ConfigError(
            f"the {scheme}:// path has credentials in it, which would be written to the plan. Put "
            "them into environment variables or the store's own settings file."
        )


@functools.lru_cache(maxsize=32)
def open_store(store: str) -> pafs.FileSystem:
    """Return the file system that `Location.store` or `FoundFile.store` names.

    Raises:
        ConfigError: the store cannot be opened from here.
    """
    if not store:
        return pafs.LocalFileSystem()
    try:
        return open_uri(store)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(
            f"{store} cannot be opened: {error_line(error).rstrip('.')}. Check the name, the "
            "network and the credentials, or add the region, as in s3://bucket/path?region=eu-west-1."
        ) from error


def file_info(filesystem: pafs.FileSystem, path: str) -> pafs.FileInfo:
    """Return the type, size and time of a path; the type is NotFound if there is nothing.

    Raises:
        InputError: the store or the folder rejects the request.
    """
    try:
        return filesystem.get_file_info(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be accessed: {error_line(error)}", path=path) from error
    except UnicodeEncodeError as error:
        raise InputError(f"the path {path!r} is not UTF-8. Rename it.", path=path) from error


def error_line(error: Exception) -> str:
    """Return the first line of an error's message, with signatures redacted, or its class name."""
    line = str(error).strip().partition("\n")[0]
    return _SIGNED.sub(r"\1...", line) or type(error).__name__


def kind_of(scheme: str) -> str:
    """Return the kind of store behind a scheme: s3, gs or az."""
    return {"gcs": "gs", "abfs": "az", "abfss": "az"}.get(scheme, scheme)


def open_uri(store: str) -> pafs.FileSystem:
    """Return the file system of a `Location.store`, such as `s3://bucket/?region=eu-west-1`.

    Raises:
        ConfigError: an option that the store does not have, or no account.
        OSError: the store cannot be reached, or has no such bucket.
    """
    uri = urllib.parse.urlsplit(store)
    kind = kind_of(uri.scheme)
    options = dict(urllib.parse.parse_qsl(uri.query))
    unknown = sorted(options.keys() - set(OPTIONS[kind]))
    if unknown:
        raise ConfigError(
            f"unknown option {', '.join(unknown)} in the {uri.scheme}:// path. Allowed are "
            f"{', '.join(OPTIONS[kind])}."
        )
    open_kind = {"s3": _open_s3, "gs": _open_gcs, "az": _open_azure}[kind]
    return open_kind(uri.netloc, options)


def _open_s3(bucket: str, options: Mapping[str, str]) -> pafs.FileSystem:
    endpoint = options.get("endpoint_override") or _first(S3_ENDPOINT)
    region = options.get("region")
    if region is None and endpoint is None:
        region = pafs.resolve_s3_region(bucket)
    return pafs.S3FileSystem(
        region=region,
        endpoint_override=endpoint,
        scheme=options.get("scheme"),
        anonymous=_is_on(options, "anonymous"),
        force_virtual_addressing=_is_on(options, "force_virtual_addressing"),
        # Up to 10 MiB then go in one request, where Arrow otherwise makes three.
        allow_delayed_open=True,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
    )


def _open_gcs(authority: str, options: Mapping[str, str]) -> pafs.FileSystem:
    emulator = _first(GCS_ENDPOINT)
    scheme, _, host = (emulator or "").rpartition("://")
    endpoint = options.get("endpoint_override") or host.rstrip("/") or None
    return pafs.GcsFileSystem(
        anonymous=authority.startswith("anonymous@") or emulator is not None,
        endpoint_override=endpoint,
        scheme=options.get("scheme") or scheme or ("http" if emulator else None),
        project_id=options.get("project_id"),
        retry_time_limit=dt.timedelta(seconds=RETRY_S),
    )


def _open_azure(authority: str, options: Mapping[str, str]) -> pafs.FileSystem:
    known = _azure_settings()
    host = authority.rpartition("@")[2] if "@" in authority else ""
    account = host.partition(".")[0] or known.get("account")
    if not account:
        raise ConfigError(
            f"{authority}: the storage account is missing. Use "
            f"abfs://container@account.dfs.core.windows.net/path, or set {AZURE_ACCOUNT[0]}."
        )
    facts: dict[str, Any] = {"account_name": account}
    # A key opens one account only, which may not be that of the path.
    if known.get("account", account) == account:
        facts.update({name: known[name] for name in ("account_key", "sas_token") if name in known})
        facts.update(_azure_endpoint(known.get("endpoint", "")))
    facts.update({name: options[name] for name in OPTIONS["az"][:2] if name in options})
    if options.get("enable_tls") in ("false", "0"):
        facts.update(blob_storage_scheme="http", dfs_storage_scheme="http")
    return pafs.AzureFileSystem(**facts)


def _azure_settings() -> dict[str, str]:
    """Return the account, its key or SAS token, and the endpoint, if the environment has them."""
    fields = os.environ.get(AZURE_CONNECTION, "").split(";")
    parts = dict(field.split("=", 1) for field in fields if "=" in field)
    found = {
        "account": parts.get("AccountName") or _first(AZURE_ACCOUNT),
        "account_key": parts.get("AccountKey") or _first(AZURE_KEY),
        "sas_token": parts.get("SharedAccessSignature") or _first(AZURE_SAS),
        "endpoint": parts.get("BlobEndpoint"),
    }
    if found["account_key"]:
        del found["sas_token"]
    return {name: value for name, value in found.items() if value}


def _azure_endpoint(url: str) -> dict[str, str]:
    """Return an endpoint as Azurite has it, http://127.0.0.1:10000/account, for Arrow."""
    uri = urllib.parse.urlsplit(url)
    if not uri.netloc:
        return {}
    facts = {"blob_storage_scheme": uri.scheme, "dfs_storage_scheme": uri.scheme}
    if uri.path.strip("/"):  # The account follows the host; otherwise it is part of the host.
        facts.update(blob_storage_authority=uri.netloc, dfs_storage_authority=uri.netloc)
    return facts


def _first(names: tuple[str, ...]) -> str | None:
    return next((value for name in names if (value := os.environ.get(name))), None)


def _is_on(options: Mapping[str, str], name: str) -> bool:
    return options.get(name, "").lower() in ("1", "true")


class LocalInput:
    """The part of a local `pyarrow.fs.FileSystem` that finds and reads input.

    Paths are in the readable form of `file_names`. pyarrow opens names that are not UTF-8 as
    bytes, but cannot list them.
    """

    def __init__(self) -> None:
        self._local = pafs.LocalFileSystem()

    def get_file_info(self, wanted: str | pafs.FileSelector) -> pafs.FileInfo | list[pafs.FileInfo]:
        """Return what is at a path, or in a folder without its subfolders."""
        if isinstance(wanted, str):
            return self._info(wanted)
        folder = str(wanted.base_dir)
        if _is_plain(folder):
            try:
                infos = list(self._local.get_file_info(wanted))
                if all(_is_plain(info.base_name) for info in infos):
                    return infos
            except UnicodeDecodeError:
                pass  # One of the names is not UTF-8.
        return _listed(folder)

    def open_input_file(self, path: str) -> pa.NativeFile:
        """Open a file for reading at any place."""
        return self._local.open_input_file(_as_bytes(path))

    def open_input_stream(self, path: str, compression: str | None = None) -> pa.NativeFile:
        """Open a file for reading from its beginning."""
        return self._local.open_input_stream(_as_bytes(path), compression=compression)

    def _info(self, path: str) -> pafs.FileInfo:
        if _is_plain(path):
            return self._local.get_file_info(path)
        info = self._local.get_file_info(_as_bytes(path))
        return pafs.FileInfo(path, info.type, mtime_ns=info.mtime_ns, size=info.size)


def _is_plain(path: str) -> bool:
    """Return whether the readable form of a path is the path itself."""
    return readable_name(path) == path == native_name(path)


def _as_bytes(path: str) -> bytes:
    return os.fsencode(native_name(path))


def _listed(folder: str) -> list[pafs.FileInfo]:
    """Return what is in a folder as pyarrow does: follow links, and omit broken ones."""
    found = []
    with os.scandir(native_name(folder)) as entries:
        for entry in entries:
            try:
                facts = entry.stat()
            except FileNotFoundError:
                continue
            path = f"{folder.rstrip('/')}/{readable_name(entry.name)}"
            if stat.S_ISREG(facts.st_mode):
                kind, size = pafs.FileType.File, facts.st_size
            else:
                is_folder = stat.S_ISDIR(facts.st_mode)
                kind, size = pafs.FileType.Directory if is_folder else pafs.FileType.Unknown, None
            found.append(pafs.FileInfo(path, kind, mtime_ns=facts.st_mtime_ns, size=size))
    return found


_LOCAL_INPUT = LocalInput()
