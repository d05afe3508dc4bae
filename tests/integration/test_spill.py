"""What was paid for is found again, and nothing else is, however the file was cut or spoilt."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.jobs import KEY, a_job

from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.units import Unit
from bulkembed.transforms.core.hashing import HASH_BYTES, text_hash
from bulkembed.transforms.core.vectors import Matrix
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.kept_answers import (
    Spill,
    SpillWriter,
    of_other_settings,
    shared_writer,
)

UNIT = Unit(KEY, 0, 9)
DIM = 3
CALLS = (("one", "two"), ("three",), ("four", "five", "six"))
FLAGS: tuple[bool | None, ...] = (False, True, None)


def vector(text: str) -> Matrix:
    return np.frombuffer(text_hash(None, text)[: 4 * DIM], np.uint8)[:DIM].astype(np.float32)


def flag(text: str) -> bool | None:
    return FLAGS[len(text) % 3]


def job_of(run_id: str, unstamped_run: str | None = None, **facts: Any) -> JobConfig:
    settings = {"service": "developer", "model": "gemini-embedding-001", "dim": 256, **facts}
    embedding = EmbeddingConfig(**settings)
    return a_job(run_id=run_id, embedding=embedding, unstamped_run=unstamped_run)


def spill_of(folder: Path, run_id: str, unstamped_run: str | None = None, **facts: Any) -> Spill:
    return Spill(Dataset.open(str(folder)), job_of(run_id, unstamped_run, **facts))


def write(folder: Path, run_id: str = "before", **settings: Any) -> Path:
    """A spill of three calls; the unit was not committed."""
    writer = spill_of(folder, run_id, **settings).writer(UNIT)
    for texts in CALLS:
        hashes = [text_hash(None, text) for text in texts]
        writer.append(hashes, np.stack([vector(t) for t in texts]), [flag(t) for t in texts])
    writer.close(committed=False)
    (path,) = (folder / "_run/spill").iterdir()
    return path


def found(folder: Path) -> set[str]:
    """The texts that the next run finds; each must have its own vector and flag."""
    spill = spill_of(folder, "after")
    wanted = [text for call in CALLS for text in call] + ["seven"]
    texts = set()
    for number, kept, cut, shared in spill.find([text_hash(None, text) for text in wanted]):
        assert np.array_equal(kept, vector(wanted[number]))
        assert cut is flag(wanted[number])
        assert not shared
        texts.add(wanted[number])
    assert len(spill) == len(texts)
    return texts


def test_each_text_is_found_with_its_vector_and_its_flag(tmp_path: Path) -> None:
    write(tmp_path)
    assert found(tmp_path) == {text for call in CALLS for text in call}


def test_a_file_cut_at_any_byte_gives_the_calls_that_are_whole(tmp_path: Path) -> None:
    path = write(tmp_path)
    data = path.read_bytes()
    ends, size = [], 0
    for texts in CALLS:
        size += 16 + 8 + len(texts) * (HASH_BYTES + 1 + 4 * DIM)
        ends.append(size)
    assert size == len(data)
    for length in range(len(data) + 1):
        path.write_bytes(data[:length])
        whole = [texts for texts, end in zip(CALLS, ends, strict=True) if end <= length]
        assert found(tmp_path) == {text for texts in whole for text in texts}


@settings(max_examples=200)
@given(st.data())
def test_a_flipped_bit_never_gives_a_wrong_vector(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder))
        content = bytearray(path.read_bytes())
        bit = data.draw(st.integers(0, 8 * len(content) - 1))
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        texts = found(Path(folder))
        assert texts < {text for call in CALLS for text in call}


def test_a_run_does_not_read_its_own_spill(tmp_path: Path) -> None:
    write(tmp_path, "same")
    assert len(spill_of(tmp_path, "same")) == 0


def test_the_commit_of_the_unit_removes_its_spill_and_no_other(tmp_path: Path) -> None:
    other = write(tmp_path)
    writer = spill_of(tmp_path, "now").writer(UNIT)
    writer.append([text_hash(None, "x")], np.ones((1, DIM), np.float32), [None])
    assert len(list((tmp_path / "_run/spill").iterdir())) == 2
    writer.close(committed=True)
    assert list((tmp_path / "_run/spill").iterdir()) == [other]


def test_a_unit_without_an_answer_leaves_no_file(tmp_path: Path) -> None:
    spill_of(tmp_path, "now").writer(UNIT).close(committed=False)
    assert not (tmp_path / "_run").exists()


def test_where_nothing_can_be_kept_nothing_is() -> None:
    writer = SpillWriter(None)
    writer.append([text_hash(None, "x")], np.ones((1, DIM), np.float32), [None])
    writer.close(committed=True)


def test_a_full_disk_is_an_error_of_ours() -> None:
    writer = SpillWriter(Path("/dev/full"))
    with pytest.raises(OutputError, match="the disk is full"):
        writer.append([text_hash(None, "x")], np.ones((1, DIM), np.float32), [None])
    writer.close(committed=False)


@pytest.mark.parametrize(
    "settings", [{"dim": 512}, {"model": "gemini-embedding-2"}, {"service": "emulator"}], ids=str
)
def test_answers_of_other_settings_are_never_found(
    tmp_path: Path, settings: dict[str, object]
) -> None:
    path = write(tmp_path, **settings)
    assert found(tmp_path) == set()
    job = job_of("after")
    assert of_other_settings(Dataset.open(str(tmp_path)), job) == [f"_run/spill/{path.name}"]


def unstamped(path: Path, texts: Iterable[str]) -> Path:
    """A file of one call as version 0.1.0 wrote it."""
    texts = list(texts)
    body = b"".join(text_hash(None, text) for text in texts)
    body += bytes(FLAGS.index(flag(text)) for text in texts)
    body += b"".join(vector(text).tobytes() for text in texts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<4sIII", b"BES1", len(texts), DIM, crc32(body)) + body)
    return path


@pytest.mark.parametrize(
    ("name", "last_run", "taken"),
    [
        pytest.param("shared/run-7-shared-0.spill", "run-7", True, id="of-the-last-run"),
        pytest.param("shared/run-6-shared-0.spill", "run-7", False, id="of-an-earlier-run"),
        pytest.param("shared/run-7-shared-0.spill", None, False, id="no-such-run"),
        pytest.param(f"spill/{KEY}-000000000000-00000009-g0-run-6.spill", "run-7", True, id="unit"),
        pytest.param(f"spill/{KEY}-000000000000-00000009-g0-run-6.spill", None, False, id="stray"),
    ],
)
def test_answers_that_do_not_say_their_settings_are_taken_only_where_they_must_be_the_pinned_ones(
    tmp_path: Path, name: str, last_run: str | None, taken: bool
) -> None:
    unstamped(tmp_path / "_run" / name, CALLS[0])
    spill = spill_of(tmp_path, "after", last_run)
    there = [number for number, *_ in spill.find([text_hash(None, text) for text in CALLS[0]])]
    assert there == ([0, 1] if taken else [])


def test_a_text_keeps_its_vector_while_another_thread_takes_in_more_files(tmp_path: Path) -> None:
    dataset, job = Dataset.open(str(tmp_path)), a_job(run_id="now")
    spill = Spill(dataset, job)

    def share(name: str, texts: list[str]) -> None:
        kept = shared_writer(dataset, job, name)
        hashes = [text_hash(None, text) for text in texts]
        kept.append(hashes, np.stack([vector(text) for text in texts]), [flag(t) for t in texts])
        kept.close()
        spill.look_for_shared()

    wanted = sorted((f"text {n}" for n in range(40)), key=lambda text: text_hash(None, text))
    share("first", wanted[20:])
    seen = spill.find([text_hash(None, text) for text in wanted[20:]])
    first = next(seen)
    share("second", wanted[:20])  # Each of them comes before all others in the new index.
    for number, kept, cut, shared in [first, *seen]:
        assert np.array_equal(kept, vector(wanted[20 + number]))
        assert cut is flag(wanted[20 + number])
        assert shared
    assert len(spill) == 40


def test_a_file_that_goes_while_it_is_looked_for_is_no_error(tmp_path: Path) -> None:
    path = write(tmp_path)
    spill = spill_of(tmp_path, "after")
    path.unlink()
    assert list(spill.find([text_hash(None, "one")])) == []
