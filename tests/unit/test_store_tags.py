"""What stores say of the content of a file."""

from __future__ import annotations

import pytest

from bulkembed.transforms.inputs.store_tags import is_tag, tag_of

MD5, ETAG = b"FZhqqi7bGlFIr1nWPVnigQ==", b'"21ca8712bfe9acc4ea0805b08881834f-1"'
GOOGLE = {"generation": b"1795852359817709", "crc32c": b"bIkWNQ==", "etag": b"CJ2v"}


@pytest.mark.parametrize(
    ("metadata", "tag"),
    [
        pytest.param({"ETag": ETAG}, f"etag:{ETAG.decode()}", id="s3"),
        pytest.param({**GOOGLE, "md5Hash": MD5}, f"md5:{MD5.decode()}", id="google"),
        pytest.param({**GOOGLE, "md5Hash": b""}, "crc32c:bIkWNQ==", id="google-composite"),
        pytest.param(
            {**GOOGLE, "crc32c": b""}, "generation:1795852359817709", id="google-no-checksum"
        ),
        pytest.param(
            {"ETag": ETAG, "Content-Hash": b""}, f"etag:{ETAG.decode()}", id="azure-blocks"
        ),
        pytest.param(
            {"ETag": ETAG, "Content-Hash": b"d41d8c", "Blob-Type": b"BlockBlob"},
            "md5:d41d8c",
            id="azure",
        ),
        pytest.param(
            {"ETag": ETAG, "Content-Hash": b"d41d8c", "Blob-Type": b"PageBlob"},
            f"etag:{ETAG.decode()}",
            id="azure-pages-written-since",
        ),
        pytest.param({"ETag": b'"00000000000000000000000000000000-1"'}, None, id="zeros"),
        pytest.param({"ETag": b'""'}, None, id="empty"),
        pytest.param({"etag": b"CJ2v"}, None, id="of-metadata"),
        pytest.param({}, None, id="nothing"),
        pytest.param(None, None, id="a-local-file"),
    ],
)
def test_a_checksum_comes_before_a_tag_of_each_write(
    metadata: dict[str, bytes] | None, tag: str | None
) -> None:
    assert tag_of(metadata) == tag


def test_a_tag_is_no_digest_of_bytes() -> None:
    assert is_tag(f"etag:{ETAG.decode()}")
    assert not is_tag("15986aaa2edb1a5148af59d63d59e281")
