"""Beam's RunInference with its Gemini handler, fixed so that each text gets a vector.

    python -m benchmarks.speed_beam URL INPUT OUTPUT DIM ROWS

Beam's handler pairs a whole batch with one embedding and drops the rest. Here `request` is
replaced, and the client gets a base URL. It sends one request at a time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.ml.inference.base import PredictionResult, RunInference
from apache_beam.ml.inference.gemini_inference import GeminiModelHandler
from google import genai
from google.genai import types

MODEL = "gemini-embedding-001"


def _embed(name: str, batch: Sequence[str], client: genai.Client, args: dict[str, Any]) -> Any:
    return client.models.embed_content(
        model=name, contents=[[text] for text in batch], config=types.EmbedContentConfig(**args)
    )


class FixedHandler(GeminiModelHandler):
    """Returns one result per text."""

    def __init__(self, url: str) -> None:
        super().__init__(MODEL, _embed, api_key="anything", min_batch_size=100, max_batch_size=100)
        self._url = url

    def create_client(self) -> genai.Client:
        """Return a client of the emulator."""
        return genai.Client(
            api_key=self.api_key, http_options=types.HttpOptions(base_url=self._url)
        )

    def request(
        self, batch: Sequence[Any], model: genai.Client, inference_args: Any = None
    ) -> Iterable[PredictionResult]:
        """Yield a result for each text of the batch."""
        answer = self.request_fn(self.model_name, batch, model, inference_args or {})
        for text, one in zip(batch, answer.embeddings, strict=True):
            yield PredictionResult(text, one.values, self.model_name)


def main() -> None:
    """Run the script."""
    url, source, output, dim, rows = sys.argv[1:]
    schema = pa.schema([("id", pa.string()), ("vector", pa.list_(pa.float32(), int(dim)))])
    limit = int(rows)
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        _ = (
            pipeline
            | beam.io.ReadFromParquet(source)
            | beam.Filter(lambda row: row["id"] < limit)
            | beam.Map(lambda row: row["text"])
            | RunInference(FixedHandler(url), inference_args={"output_dimensionality": int(dim)})
            | beam.Map(
                lambda one: {"id": one.example, "vector": np.array(one.inference, np.float32)}
            )
            | beam.io.WriteToParquet(output, schema, codec="zstd", num_shards=1)
        )


if __name__ == "__main__":
    main()
