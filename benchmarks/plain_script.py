"""A script without bulkembed: the SDK's async client with aiolimiter's token bucket.

    python -m benchmarks.plain_script URL FILE --rpm 3000
    python -m benchmarks.plain_script URL FILE --tpm 100000

It sends 100 texts per request and 16 requests at once, counts a token as four characters, and uses
the SDK's own retries. It saves nothing, so if it fails, all paid vectors are lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json

import pyarrow.parquet as pq
from aiolimiter import AsyncLimiter
from google import genai
from google.genai import types

CALL_TEXTS = 100
IN_FLIGHT = 16
RETRIES = types.HttpRetryOptions(attempts=10, initial_delay=1, max_delay=60)


async def embed_all(url: str, texts: list[str], limiter: AsyncLimiter, by_tokens: bool) -> int:
    """Embed the texts, and return the number of vectors."""
    options = types.HttpOptions(base_url=url, retry_options=RETRIES)
    client = genai.Client(api_key="anything", http_options=options)
    permits = asyncio.Semaphore(IN_FLIGHT)

    async def call(part: list[str]) -> int:
        async with permits:
            await limiter.acquire(sum(map(len, part)) / 4 if by_tokens else len(part))
            answer = await client.aio.models.embed_content(
                model="gemini-embedding-001",
                contents=list(part),
                config={"output_dimensionality": 768},
            )
            return len(answer.embeddings or ())

    parts = [texts[at : at + CALL_TEXTS] for at in range(0, len(texts), CALL_TEXTS)]
    return sum(await asyncio.gather(*map(call, parts)))


def main() -> None:
    """Run the script and print its result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("file")
    parser.add_argument("--rpm", type=int)
    parser.add_argument("--tpm", type=int)
    args = parser.parse_args()
    texts = pq.read_table(args.file)["text"].to_pylist()
    limiter = AsyncLimiter(args.rpm or args.tpm, 60)
    try:
        done = asyncio.run(embed_all(args.url, texts, limiter, by_tokens=args.rpm is None))
        print(json.dumps({"texts": done}))
    except Exception as error:
        print(json.dumps({"texts": 0, "error": f"{type(error).__name__}: {error}"[:200]}))


if __name__ == "__main__":
    main()
