"""Opens object stores: where they are and who we are, by the variables that their own tools read.

Nothing secret comes from a path, and nothing secret is kept: a worker of another machine opens the
store anew, by its own environment.
"""

from __future__ import annotations

import datetime as dt
import os
import urllib.parse
from collections.abc import Mapping
from typing import Any

import pyarrow.fs as pafs

from schemas.errors import ConfigError

ATTEMPTS = 8
"""Tries of a request to S3, by the SDK: with its growing waits they last about a minute."""
RETRY_S = 60
"""How long a request to Google Cloud Storage is tried."""

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
"""What may follow `?`, by the kind of store; the names are those of pyarrow's URIs."""


def kind_of(scheme: str) -> str:
    """The kind of store behind a scheme: s3, gs or az."""
    return {"gcs": "gs", "abfs": "az", "abfss": "az"}.get(scheme, scheme)


def open_uri(store: str) -> pafs.FileSystem:
    """The file system of a `Location.store`, such as `s3://bucket/?region=eu-west-1`.

    Raises:
        ConfigError: an option that the store does not have, or no account.
        OSError: the store cannot be reached, or knows no such bucket.
    """
    uri = urllib.parse.urlsplit(store)
    kind = kind_of(uri.scheme)
    options = dict(urllib.parse.parse_qsl(uri.query))
    unknown = sorted(options.keys() - set(OPTIONS[kind]))
    if unknown:
        raise ConfigError(
            f"{uri.scheme}:// paths have no option {', '.join(unknown)}; "
            f"there are {', '.join(OPTIONS[kind])}"
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
        # What fits into 10 MiB then goes in one request, where Arrow otherwise makes three.
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
            f"{authority}: the storage account is missing; give "
            f"abfs://container@account.dfs.core.windows.net/path, or set {AZURE_ACCOUNT[0]}"
        )
    facts: dict[str, Any] = {"account_name": account}
    # A key opens one account: not the one that another path names.
    if known.get("account", account) == account:
        facts.update({name: known[name] for name in ("account_key", "sas_token") if name in known})
        facts.update(_azure_endpoint(known.get("endpoint", "")))
    facts.update({name: options[name] for name in OPTIONS["az"][:2] if name in options})
    if options.get("enable_tls") in ("false", "0"):
        facts.update(blob_storage_scheme="http", dfs_storage_scheme="http")
    return pafs.AzureFileSystem(**facts)


def _azure_settings() -> dict[str, str]:
    """The account, its key or SAS token, and the endpoint, as far as the environment tells."""
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
    """Azurite's kind of endpoint, http://127.0.0.1:10000/account, as Arrow takes it."""
    uri = urllib.parse.urlsplit(url)
    if not uri.netloc:
        return {}
    facts = {"blob_storage_scheme": uri.scheme, "dfs_storage_scheme": uri.scheme}
    if uri.path.strip("/"):  # The account follows the host; otherwise it is in the host's name.
        facts.update(blob_storage_authority=uri.netloc, dfs_storage_authority=uri.netloc)
    return facts


def _first(names: tuple[str, ...]) -> str | None:
    return next((value for name in names if (value := os.environ.get(name))), None)


def _is_on(options: Mapping[str, str], name: str) -> bool:
    return options.get(name, "").lower() in ("1", "true")
