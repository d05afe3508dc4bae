"""Contents that several units want: one of them sends each, and no two wait for each other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import pytest

from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.tokens import TokenEstimator
from bulkembed.transforms.units.claims import Claims
from bulkembed.transforms.units.distinct_contents import DistinctContents

EMBEDDING = EmbeddingConfig("emulator", "gemini-embedding-2")


def contents(texts: str) -> list[Content]:
    """A content for each letter."""
    distinct = DistinctContents(EMBEDDING, TokenEstimator())
    for text in texts:
        distinct.add(None, text)
    return distinct.items


def hashes(items: Sequence[Content]) -> list[bytes]:
    return [item.hash for item in items]


@pytest.mark.parametrize("fails", [False, True])
def test_a_later_unit_waits_until_the_first_one_has_ended(*, fails: bool) -> None:
    ended = []

    async def first(claims: Claims, claimed: asyncio.Event, may_end: asyncio.Event) -> None:
        with contextlib.suppress(ValueError), claims.claim(contents("abc")) as claim:
            assert hashes(claim.own) == hashes(contents("abc"))
            assert not claim.elsewhere
            claimed.set()
            await may_end.wait()
            ended.append("first")
            if fails:
                raise ValueError

    async def play() -> None:
        claims, claimed, may_end = Claims(), asyncio.Event(), asyncio.Event()
        running = asyncio.create_task(first(claims, claimed, may_end))
        await claimed.wait()
        with claims.claim(contents("bcd")) as claim:
            assert hashes(claim.own) == hashes(contents("d"))
            assert hashes(claim.elsewhere) == hashes(contents("bc"))
            waiting = asyncio.create_task(claim.others_ended())
            await asyncio.sleep(0)
            assert not waiting.done()
            may_end.set()
            await waiting
            ended.append("second")
        await running

    asyncio.run(asyncio.wait_for(play(), 10))
    assert ended == ["first", "second"]


def test_what_an_ended_unit_had_is_elsewhere_and_nobody_waits_for_it() -> None:
    async def play() -> None:
        claims = Claims()
        with claims.claim(contents("ab")):
            pass
        with claims.claim(contents("bc")) as claim:
            assert hashes(claim.own) == hashes(contents("c"))
            assert hashes(claim.elsewhere) == hashes(contents("b"))
            assert not claim.before
            await claim.others_ended()

    asyncio.run(play())


def test_units_that_want_what_the_other_has_end() -> None:
    async def unit(claims: Claims, texts: str, ended: list[str]) -> None:
        with claims.claim(contents(texts)) as claim:
            await asyncio.sleep(0)
            await claim.others_ended()
            ended.append(texts)

    async def play() -> list[str]:
        claims, ended = Claims(), list[str]()
        await asyncio.gather(*(unit(claims, texts, ended) for texts in ("ab", "bc", "ca", "abc")))
        return ended

    assert len(asyncio.run(asyncio.wait_for(play(), 10))) == 4
