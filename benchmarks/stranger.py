"""Somebody else who uses the project's quota: even calls of 50 texts, 1,000 a minute.

    python -m benchmarks.stranger URL SECONDS [TEXTS_A_MINUTE]

A refused call is not sent again: the next one comes in its time.
"""

from __future__ import annotations

import asyncio
import collections
import json
import sys
import time

import httpx2

MODEL = "gemini-embedding-001"
CALL_TEXTS = 50


async def stranger(url: str, seconds: float, per_minute: int) -> dict[str, int]:
    """Calls at an even pace; gives the number of answers by status, and the texts answered."""
    answers: collections.Counter[int] = collections.Counter()
    every_s = 60 * CALL_TEXTS / per_minute
    async with (
        httpx2.AsyncClient(trust_env=False, timeout=60) as client,
        asyncio.TaskGroup() as all,
    ):
        started = time.monotonic()
        for number in range(int(seconds / every_s)):
            await asyncio.sleep(max(0.0, started + number * every_s - time.monotonic()))
            all.create_task(_call(client, url, number, answers))
    return {
        "calls": answers.total(),
        "refused": answers[429],
        "texts": CALL_TEXTS * answers[200],
    }


async def _call(
    client: httpx2.AsyncClient, url: str, number: int, answers: collections.Counter[int]
) -> None:
    requests = [
        {
            "model": f"models/{MODEL}",
            "content": {"parts": [{"text": f"stranger {number}, text {text}"}]},
            "outputDimensionality": 128,
        }
        for text in range(CALL_TEXTS)
    ]
    response = await client.post(
        f"{url}/v1beta/models/{MODEL}:batchEmbedContents",
        json={"requests": requests},
        headers={"x-goog-api-key": "stranger"},
    )
    answers[response.status_code] += 1


def main() -> None:
    """Runs for the time given, and prints what came of it."""
    url, seconds, *more = sys.argv[1:]
    print(json.dumps(asyncio.run(stranger(url, float(seconds), int(more[0]) if more else 1000))))


if __name__ == "__main__":
    main()
