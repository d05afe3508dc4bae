"""Requests that the SDK makes, and their copies."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from typing import Any

import httpx2
import pytest

from bulkembed.transforms.clients.made_requests import RequestMaker, UnsentRequests


def made(
    fields: Sequence[dict[str, Any]], *, key: bool = True, kind: str | None = "many",
    parameters: dict[str, str] | None = None,
) -> list[httpx2.Request]:  # fmt: skip
    """Return requests made one after the other, by what signs each with another token."""

    async def go() -> list[httpx2.Request]:
        tokens = itertools.count(1)
        async with UnsentRequests() as http:

            async def make() -> None:
                headers = {"authorization": f"token {next(tokens)}", "user-agent": "sdk"}
                body = {"model": "m", "requests": ["x"]}
                await http.post("http://host/path?a=b", headers=headers, json=body, timeout=7)

            maker = RequestMaker(is_signed_by_key=key, encodings="gzip, deflate")
            return [await maker.request(make, parameters or {}, kind, one) for one in fields]

    return asyncio.run(go())


@pytest.mark.parametrize(
    ("key", "kind", "tokens"),
    [(True, "many", [1, 1, 1]), (True, None, [1, 2, 3]), (False, "many", [1, 2, 3])],
)
def test_requests_are_copied_if_they_differ_in_their_fields_only(
    key: bool, kind: str | None, tokens: list[int]
) -> None:
    found = made([{"requests": [n]} for n in range(3)], key=key, kind=kind)
    assert [one.headers["authorization"] for one in found] == [f"token {n}" for n in tokens]
    assert [json.loads(one.content) for one in found] == [
        {"model": "m", "requests": [n]} for n in range(3)
    ]
    for one in found:
        assert one.headers["content-length"] == str(len(one.content))
        assert one.extensions["timeout"]["read"] == 7
        assert one.url == "http://host/path?a=b"


def test_parameters_and_the_wish_for_gzip_are_added() -> None:
    (request,) = made([{}], parameters={"prettyPrint": "false"})
    assert request.url.query == b"a=b&prettyPrint=false"
    assert request.headers["accept-encoding"] == "gzip, deflate"
    assert request.headers["user-agent"] == "sdk (gzip)"


def test_protobuf_is_not_to_be_compressed() -> None:
    (request,) = made([{}], parameters={"alt": "proto"})
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["user-agent"] == "sdk"


def test_texts_are_sent_in_utf_8_unless_they_cannot_be() -> None:
    whole, half = made([{"requests": ["\u00c4"]}, {"requests": ["\ud800"]}])
    assert "\u00c4".encode() in whole.content
    assert b"\\ud800" in half.content
