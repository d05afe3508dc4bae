"""Options, variables and accounts with which a store is opened; no request is sent."""

from __future__ import annotations

import datetime as dt

import pyarrow.fs as pafs
import pytest

from bulkembed.schemas.errors import ConfigError
from bulkembed.transforms.inputs.filesystems import error_line, open_uri

AZURITE = (
    "DefaultEndpointsProtocol=http;AccountName=dev;AccountKey=aHVzaA==;"
    "BlobEndpoint=http://127.0.0.1:10000/dev;"
)


def opened(uri: str, monkeypatch: pytest.MonkeyPatch, **environ: str) -> pafs.FileSystem:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return open_uri(uri)


def s3(endpoint: str, **more: object) -> pafs.FileSystem:
    return pafs.S3FileSystem(
        endpoint_override=endpoint,
        allow_delayed_open=True,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=8),
        **more,
    )


KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}


@pytest.mark.parametrize(
    ("uri", "environ", "endpoint"),
    [
        pytest.param("s3://b/", {"AWS_ENDPOINT_URL": "http://x:1"}, "http://x:1", id="any-service"),
        pytest.param(
            "s3://b/",
            {"AWS_ENDPOINT_URL": "http://x:1", "AWS_ENDPOINT_URL_S3": "http://y:2"},
            "http://y:2",
            id="s3-goes-first",
        ),
        pytest.param(
            "s3://b/?endpoint_override=http://z:3",
            {"AWS_ENDPOINT_URL_S3": "http://y:2"},
            "http://z:3",
            id="the-path-goes-before-all",
        ),
    ],
)
def test_the_endpoint_of_s3_comes_from_the_path_or_amazons_variables(
    monkeypatch: pytest.MonkeyPatch, uri: str, environ: dict[str, str], endpoint: str
) -> None:
    found = opened(uri, monkeypatch, AWS_EC2_METADATA_DISABLED="true", **KEYS, **environ)
    assert found == s3(endpoint)
    assert found != s3("http://elsewhere:9")


@pytest.mark.parametrize("host", ["127.0.0.1:9", "http://127.0.0.1:9", "http://127.0.0.1:9/"])
def test_the_endpoint_of_googles_store_comes_from_its_emulators_variable(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    found = opened("gs://b/", monkeypatch, STORAGE_EMULATOR_HOST=host)
    wanted = pafs.GcsFileSystem(
        anonymous=True,
        endpoint_override="127.0.0.1:9",
        scheme="http",
        retry_time_limit=dt.timedelta(seconds=60),
    )
    assert found == wanted


@pytest.mark.parametrize("uri", ["az://c/", "abfs://c@dev/", "abfss://c@dev.dfs.core.windows.net/"])
def test_azures_store_is_opened_with_a_connection_string(
    monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    found = opened(uri, monkeypatch, AZURE_STORAGE_CONNECTION_STRING=AZURITE)
    here = {"blob_storage_authority": "127.0.0.1:10000", "dfs_storage_authority": "127.0.0.1:10000"}
    assert found == pafs.AzureFileSystem(
        account_name="dev", account_key="aHVzaA==", blob_storage_scheme="http",
        dfs_storage_scheme="http", **here,
    )  # fmt: skip


def test_a_key_is_not_sent_to_another_account(monkeypatch: pytest.MonkeyPatch) -> None:
    found = opened("abfs://c@other/", monkeypatch, AZURE_STORAGE_CONNECTION_STRING=AZURITE)
    assert found == pafs.AzureFileSystem(account_name="other")


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        pytest.param("s3://b/?regoin=eu", "option regoin.*Allowed are region,", id="option"),
        pytest.param("az://c/", "AZURE_STORAGE_ACCOUNT_NAME", id="no-account"),
    ],
)
def test_the_error_for_a_store_that_cannot_be_opened_says_what_to_use(uri: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        open_uri(uri)


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("GetProperties for 'https://a/b?sv=1&sig=hush%3D' failed\nmore", "?sv=1&sig=...' failed"),
        ("PUT https://b/k?X-Amz-Signature=hush&x=1", "?X-Amz-Signature=...&x=1"),
        ("GET https://b/k?X-Goog-Credential=hush", "?X-Goog-Credential=..."),
    ],
)
def test_signatures_in_store_errors_are_redacted(message: str, line: str) -> None:
    found = error_line(OSError(message))
    assert found.endswith(line)
    assert "hush" not in found
    assert error_line(OSError()) == "OSError"
