"""LlamaIndex's embedder with 16 asynchronous requests, in its own environment.

    .venv-peers/bin/python benchmarks/speed_llama.py URL INPUT OUTPUT DIM ROWS

It imports nothing of bulkembed, because it needs an older version of the SDK.
"""

from __future__ import annotations

import asyncio
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from google.genai import types
from llama_index.embeddings.google_genai import GoogleGenAIEmbedding

PIECE_ROWS = 10_000


async def embed_all(url: str, table: pa.Table, output: str, dim: int) -> None:
    """Embed a table's texts, and write one Parquet file."""
    embedder = GoogleGenAIEmbedding(
        model_name="gemini-embedding-001",
        api_key="anything",
        embed_batch_size=100,
        num_workers=16,
        embedding_config=types.EmbedContentConfig(output_dimensionality=dim),
        http_options=types.HttpOptions(base_url=url),
    )
    kind = pa.list_(pa.float32(), dim)
    schema = pa.schema([("id", table.schema.field("id").type), ("vector", kind)])
    with pq.ParquetWriter(output, schema, compression="zstd") as writer:
        for at in range(0, len(table), PIECE_ROWS):
            piece = table.slice(at, PIECE_ROWS)
            rows = await embedder.aget_text_embedding_batch(piece["text"].to_pylist())
            flat = pa.array(np.array(rows, np.float32).reshape(-1))
            vectors = pa.FixedSizeListArray.from_arrays(flat, type=kind)
            writer.write_table(pa.table([piece["id"], vectors], schema=schema))


def main() -> None:
    """Run the script."""
    url, source, output, dim, rows = sys.argv[1:]
    table = pq.read_table(source).slice(0, int(rows))
    asyncio.run(embed_all(url, table, output, int(dim)))


if __name__ == "__main__":
    main()
