"""Paths and URIs taken apart; no store is opened."""

import pytest

from bulkembed.schemas.errors import ConfigError
from bulkembed.transforms.inputs.discover import split_glob
from bulkembed.transforms.inputs.filesystems import Location, locate


@pytest.mark.parametrize(
    ("path", "store", "rest"),
    [
        pytest.param("/d/a[1] #50%.parquet", "", "/d/a[1] #50%.parquet", id="local-is-literal"),
        pytest.param("file:///d/a%20b%23.parquet", "", "/d/a b#.parquet", id="file-is-decoded"),
        pytest.param("file://localhost/d/x", "", "/d/x", id="localhost"),
        pytest.param("s3://b/k/a b%20.parquet", "s3://b/", "b/k/a b%20.parquet", id="s3-literal"),
        pytest.param("s3://b/k/?.parquet", "s3://b/", "b/k/?.parquet", id="question-mark"),
        pytest.param("s3://b/k?region=eu-1", "s3://b/?region=eu-1", "b/k", id="options"),
        pytest.param("s3://b", "s3://b/", "b", id="bucket-alone"),
        pytest.param("gs://anonymous@b/k", "gs://anonymous@b/", "b/k", id="gs-anonymous"),
        pytest.param("abfs://c@acc/k", "abfs://c@acc/", "c/k", id="abfs-container"),
        pytest.param("az://c/k", "az://c/", "c/k", id="az"),
    ],
)
def test_a_path_is_split_into_store_and_rest(path: str, store: str, rest: str) -> None:
    assert locate(path) == Location(store, rest)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        pytest.param("", "empty", id="empty"),
        pytest.param("http://h/x", "s3://", id="scheme"),
        pytest.param("file://host/x", "must not name a host", id="file-host"),
        pytest.param("s3:///k", "bucket", id="no-bucket"),
        pytest.param("s3://AK:hush@b/k", "environment", id="password"),
        pytest.param("s3://b/k?secret_key=hush", "environment", id="secret-option"),
        pytest.param("az://c/k?sv=2&sig=hush", "environment", id="signature"),
        pytest.param("az://c/k?sv=2&sig=hush/*.parquet", "environment", id="before-a-glob"),
        pytest.param("https://u:hush@h/k", "not supported", id="another-scheme"),
    ],
)
def test_an_invalid_path_is_rejected_without_showing_secrets(path: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        locate(path)
    assert "hush" not in caught.value.message


@pytest.mark.parametrize(
    ("glob", "root", "name", "matched"),
    [
        ("/d/**/*.parquet", "/d", "a.parquet", True),
        ("/d/**/*.parquet", "/d", "x/y/a.parquet", True),
        ("/d/x*/**/b/*", "/d", "x1/b/a", True),
        ("/d/x*/**/b/*", "/d", "x1/c/b/a", True),
        ("/d/x*/**/b/*", "/d", "x1/a", False),
        ("/d/[!a]*", "/d", "b", True),
        ("/d/[!a]*", "/d", "a", False),
        ("/d/[]x]*", "/d", "]", True),
        ("/d/[a", "/d", "[a", True),
        ("/d/a+b.*", "/d", "aab.x", False),
        ("/*", "/", "x", True),
        ("/d/[a^-]?", "/d", "^-", True),
        ("/d/a*", "/d", "a\nb", True),
    ],
)
def test_a_glob_matches_whole_names(glob: str, root: str, name: str, matched: bool) -> None:
    taken = split_glob(glob)
    assert taken.root == root
    assert taken.matches(name) is matched
