"""A simple asyncio script with the SDK, which sends nested lists or Content objects.

python -m benchmarks.speed_sdk URL INPUT OUTPUT DIM ROWS nested|contents
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from google import genai
from google.genai import types

MODEL = "gemini-embedding-001"
CALL_TEXTS = 100
IN_FLIGHT = 16


async def embed_all(url: str, table: pa.Table, output: str, dim: int, form: str) -> None:
    """Embed a table's texts, and write one Parquet file, 2,500 rows at a time."""
    client = genai.Client(api_key="anything", http_options=types.HttpOptions(base_url=url))
    permits = asyncio.Semaphore(IN_FLIGHT)
    config = types.EmbedContentConfig(output_dimensionality=dim)

    async def call(texts: list[str]) -> list[list[float]]:
        contents: Any = [[text] for text in texts]
        if form == "contents":
            contents = [types.Content(parts=[types.Part(text=text)]) for text in texts]
        async with permits:
            answer = await client.aio.models.embed_content(
                model=MODEL, contents=contents, config=config
            )
        return [list(one.values or ()) for one in answer.embeddings or ()]

    kind = pa.list_(pa.float32(), dim)
    schema = pa.schema([("id", table.schema.field("id").type), ("vector", kind)])

    async def part(piece: pa.Table) -> pa.Table:
        texts = piece["text"].to_pylist()
        calls = (texts[at : at + CALL_TEXTS] for at in range(0, len(texts), CALL_TEXTS))
        rows = [row for found in await asyncio.gather(*map(call, calls)) for row in found]
        flat = pa.array(np.array(rows, np.float32).reshape(-1))
        vectors = pa.FixedSizeListArray.from_arrays(flat, type=kind)
        return pa.table([piece["id"], vectors], schema=schema)

    with pq.ParquetWriter(output, schema, compression="zstd") as writer:
        pieces = [table.slice(at, 2500) for at in range(0, len(table), 2500)]
        waiting = {asyncio.ensure_future(part(piece)) for piece in pieces[:4]}
        following = iter(pieces[4:])
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            waiting |= {asyncio.ensure_future(part(p)) for _, p in zip(done, following)}  # noqa: B905
            for one in done:
                writer.write_table(one.result())


def main() -> None:
    """Run the script."""
    url, source, output, dim, rows, form = sys.argv[1:]
    table = pq.read_table(source).slice(0, int(rows))
    asyncio.run(embed_all(url, table, output, int(dim), form))


if __name__ == "__main__":
    main()
