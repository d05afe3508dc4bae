"""Another user of the same quota: requests of 50 texts at an even pace, 1,000 texts per minute.

    python -m benchmarks.other_client URL SECONDS [TEXTS_PER_MINUTE]

It does not retry rate-limited requests.
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


async def send_evenly(url: str, seconds: float, per_minute: int) -> dict[str, int]:
    """Send requests at an even pace; return the numbers of requests, 429s and embedded texts."""
    answers: collections.Counter[int] = collections.Counter()
    every_s = 60 * CALL_TEXTS / per_minute
    async with (
        httpx2.AsyncClient(trust_env=False, timeout=60) as client,
        asyncio.TaskGroup() as tasks,
    ):
        started = time.monotonic()
        for number in range(int(seconds / every_s)):
            await asyncio.sleep(max(0.0, started + number * every_s - time.monotonic()))
            tasks.create_task(_call(client, url, number, answers))
    return {
        "calls": answers.total(),
        "rate_limited": answers[429],
        "texts": CALL_TEXTS * answers[200],
    }


async def _call(
    client: httpx2.AsyncClient, url: str, number: int, answers: collections.Counter[int]
) -> None:
    requests = [
        {
            "model": f"models/{MODEL}",
            "content": {"parts": [{"text": f"other client {number}, text {text}"}]},
            "outputDimensionality": 128,
        }
        for text in range(CALL_TEXTS)
    ]
    response = await client.post(
        f"{url}/v1beta/models/{MODEL}:batchEmbedContents",
        json={"requests": requests},
        headers={"x-goog-api-key": "other-client"},
    )
    answers[response.status_code] += 1


def main() -> None:
    """Run for the given time and print the counts."""
    url, seconds, *more = sys.argv[1:]
    print(json.dumps(asyncio.run(send_evenly(url, float(seconds), int(more[0]) if more else 1000))))


if __name__ == "__main__":
    main()
