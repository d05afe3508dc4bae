"""The results of a batch job, read from a file."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.ledger_entry import BatchJob, LedgerState
from bulkembed.transforms.batch.results import ResultReader
from bulkembed.transforms.core.hashing import text_hash
from bulkembed.transforms.dataset.batch_ledger import digest_of, job_texts

EMBEDDING = EmbeddingConfig("developer", "gemini-embedding-001", dim=128)


def line(content: bytes) -> str:
    """Return a line of a result file."""
    embedding = {"values": [1.0, *[0.0] * 127]}
    response = {"embedding": embedding, "usageMetadata": {"promptTokenCount": 3}}
    return json.dumps({"key": content.hex(), "response": response}) + "\n"


def reader(path: Path, hashes: list[bytes]) -> ResultReader:
    texts = job_texts(hashes, [False] * len(hashes))
    job = BatchJob("name", LedgerState.CREATED, len(texts), 1, 1, 1, digest_of(texts), "d", 1.0)
    return ResultReader(path, job, texts, EMBEDDING)


def peak_of_reading(path: Path, hashes: list[bytes]) -> int:
    """Return the most bytes that reading takes once the reader is made."""
    results = reader(path, hashes)
    tracemalloc.start()
    try:
        assert sum(len(block.hashes) for block in results.blocks()) == 300
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_lines_are_joined_without_copies_of_the_keys_of_their_job(tmp_path: Path) -> None:
    hashes = [text_hash(None, str(number)) for number in range(200_000)]
    path = tmp_path / "results.jsonl"
    path.write_text("".join(map(line, hashes[:300])))
    keys_bytes = 8 * len(hashes)
    few, many = peak_of_reading(path, hashes[:300]), peak_of_reading(path, hashes)
    assert many - few < keys_bytes / 2


def test_lines_that_do_not_count_are_counted_by_kind(tmp_path: Path) -> None:
    hashes = [text_hash(None, str(number)) for number in range(5)]
    path = tmp_path / "results.jsonl"
    foreign = text_hash(None, "another text")
    path.write_text("".join(map(line, [*hashes[:3], hashes[0], foreign])) + "\n")
    results = reader(path, hashes)
    found = [one for block in results.blocks() for one in block.hashes]
    assert found == hashes[:3]
    assert (results.repeated, results.foreign) == (1, 1)
    assert results.missing is not None
    assert len(results.missing) == 2
    assert results.counts.texts == 3
