"""`bulkembed` whose client makes vectors in its process instead of sending requests.

    python -m benchmarks.ready_vectors run --input ...

A first night of ten million rows then takes minutes: reading, planning, commits and the end of the
run are the product's own, only HTTP and JSON are left out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from bulkembed.pipeline.cli.main import main
from bulkembed.transforms.clients.decoding import Answer
from bulkembed.transforms.clients.gemini import GeminiClient
from bulkembed.transforms.core.content import Content

_random = np.random.default_rng(1)


async def embed(client: GeminiClient, contents: Sequence[Content]) -> Answer:
    """Return random vectors of unit length."""
    dim = client._embedding.out_dim or 128
    vectors = _random.standard_normal((len(contents), dim), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Answer(vectors, tokens=16 * len(contents))


if __name__ == "__main__":
    GeminiClient.embed = embed  # type: ignore[method-assign]
    main(sys.argv[1:])
