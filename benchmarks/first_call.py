"""`bulkembed` that ends without a trace when it would send its first request.

    python -m benchmarks.first_call run --input ...

What it cost is what a run needs before it sends anything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from bulkembed.pipeline.cli.main import main
from bulkembed.transforms.clients.decoding import Answer
from bulkembed.transforms.clients.gemini import GeminiClient
from bulkembed.transforms.core.content import Content


async def embed(client: GeminiClient, contents: Sequence[Content]) -> Answer:
    """End the process with code 0."""
    os._exit(0)


if __name__ == "__main__":
    GeminiClient.embed = embed  # type: ignore[method-assign]
    main(sys.argv[1:])
    sys.exit("it sent nothing")
