"""Kept answers are found again, and nothing else is, however a file was cut or damaged."""

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
from bulkembed.transforms.core.hashing import HASH_BYTES, keys, text_hash
from bulkembed.transforms.core.vectors import Matrix
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.kept_answers import (
    AnswerWriter,
    KeptAnswers,
    files_of_other_settings,
    shared_writer,
    unit_writer,
)
from bulkembed.transforms.dataset.known_vectors import Matches, distinct_keys, known_hashes

UNIT = Unit(KEY, 0, 9)
DIM = 3
CALLS = (("one", "two"), ("three",), ("four", "five", "six"))
FLAGS: tuple[bool | None, ...] = (False, True, None)


def vector(text: str) -> Matrix:
    return np.frombuffer(text_hash(None, text)[: 4 * DIM], np.uint8)[:DIM].astype(np.float32)


def flag(text: str) -> bool | None:
    return FLAGS[len(text) % 3]


def make_job(run_id: str, unstamped_run: str | None = None, **facts: Any) -> JobConfig:
    settings = {"service": "developer", "model": "gemini-embedding-001", "dim": 256, **facts}
    embedding = EmbeddingConfig(**settings)
    return a_job(run_id=run_id, embedding=embedding, unstamped_run=unstamped_run)


def answers_of(folder: Path, run_id: str, unstamped_run: str | None = None) -> KeptAnswers:
    answers = KeptAnswers(Dataset.open(str(folder)), make_job(run_id, unstamped_run))
    answers.refresh()
    return answers


def writer_of(folder: Path, run_id: str, **settings: Any) -> AnswerWriter:
    return unit_writer(Dataset.open(str(folder)), make_job(run_id, **settings), UNIT)


def hashes_of(texts: Iterable[str]) -> list[bytes]:
    return [text_hash(None, text) for text in texts]


def write(folder: Path, run_id: str = "before", **settings: Any) -> Path:
    """Write a file of three answers, as a killed run leaves it."""
    writer = writer_of(folder, run_id, **settings)
    for texts in CALLS:
        writer.append(
            hashes_of(texts), np.stack([vector(t) for t in texts]), [flag(t) for t in texts]
        )
    writer.close(committed=False)
    (path,) = (folder / "_run/spill").iterdir()
    return path


def found(folder: Path) -> set[str]:
    """Return the texts that the next run finds; each must have its own vector and flag."""
    answers = answers_of(folder, "after")
    wanted = [text for call in CALLS for text in call] + ["seven"]
    matches = answers.find(distinct_keys(hashes_of(wanted)))
    texts = read_all(matches, wanted, of_other_rows=False)
    assert len(answers) == len(matches) == len(texts)
    assert set(matches.hashes()) == set(hashes_of(texts))
    return texts


def read_all(matches: Matches, wanted: Iterable[str], *, of_other_rows: bool) -> set[str]:
    text_of = {text_hash(None, text): text for text in wanted}
    texts = set()
    for block in matches.read():
        assert block.of_other_rows is of_other_rows
        for name, kept, cut in zip(block.hashes, block.vectors, block.truncated, strict=True):
            assert np.array_equal(kept, vector(text_of[name]))
            assert cut is flag(text_of[name])
            texts.add(text_of[name])
    return texts


def test_each_text_is_found_with_its_vector_and_its_flag(tmp_path: Path) -> None:
    write(tmp_path)
    assert found(tmp_path) == {text for call in CALLS for text in call}


def test_a_file_cut_at_any_byte_gives_its_complete_blocks(tmp_path: Path) -> None:
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


def test_a_run_does_not_read_its_own_kept_answers(tmp_path: Path) -> None:
    write(tmp_path, "same")
    assert len(answers_of(tmp_path, "same")) == 0


def test_the_commit_of_a_unit_deletes_its_kept_answers_and_no_others(tmp_path: Path) -> None:
    other = write(tmp_path)
    writer = writer_of(tmp_path, "now")
    writer.append([text_hash(None, "x")], np.ones((1, DIM), np.float32), [None])
    assert len(list((tmp_path / "_run/spill").iterdir())) == 2
    writer.close(committed=True)
    assert list((tmp_path / "_run/spill").iterdir()) == [other]


def test_a_unit_without_an_answer_leaves_no_file(tmp_path: Path) -> None:
    writer_of(tmp_path, "now").close(committed=False)
    assert not (tmp_path / "_run").exists()


def test_a_writer_without_a_path_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    writer = AnswerWriter(None)
    writer.append([text_hash(None, "x")], np.ones((1, DIM), np.float32), [None])
    writer.close(committed=False)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_output_error() -> None:
    writer = AnswerWriter(Path("/dev/full"))
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
    job = make_job("after")
    assert files_of_other_settings(Dataset.open(str(tmp_path)), job) == [f"_run/spill/{path.name}"]


def unstamped(path: Path, texts: Iterable[str]) -> Path:
    """Write a file of one answer as version 0.1.0 did."""
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
def test_answers_without_a_digest_are_found_only_if_the_pinned_settings_made_them(
    tmp_path: Path, name: str, last_run: str | None, taken: bool
) -> None:
    unstamped(tmp_path / "_run" / name, CALLS[0])
    hashes = hashes_of(CALLS[0])
    known = known_hashes(answers_of(tmp_path, "after", last_run), hashes)
    assert known == (set(hashes) if taken else set())


def test_matches_stay_valid_while_another_thread_adds_files(tmp_path: Path) -> None:
    dataset, job = Dataset.open(str(tmp_path)), a_job(run_id="now")
    answers = KeptAnswers(dataset, job)

    def share(name: str, texts: list[str]) -> None:
        kept = shared_writer(dataset, job, name)
        kept.append(
            hashes_of(texts), np.stack([vector(text) for text in texts]), [flag(t) for t in texts]
        )
        kept.close()
        answers.refresh()

    wanted = sorted(
        (f"text {n}" for n in range(40)), key=lambda text: keys([text_hash(None, text)])[0]
    )
    share("first", wanted[20:])
    matches = answers.find(distinct_keys(hashes_of(wanted[20:])))
    share("second", wanted[:20])  # Each of them comes before all others in the new index.
    assert read_all(matches, wanted[20:], of_other_rows=True) == set(wanted[20:])
    assert len(answers) == 40


def test_a_file_that_is_deleted_before_it_is_read_is_no_error(tmp_path: Path) -> None:
    path = write(tmp_path)
    matches = answers_of(tmp_path, "after").find(distinct_keys(hashes_of(["one"])))
    assert len(matches) == 1
    path.unlink()
    assert list(matches.read()) == []


def test_texts_with_equal_keys_are_distinguished_by_their_whole_hashes(tmp_path: Path) -> None:
    dataset, job = Dataset.open(str(tmp_path)), make_job("now")
    one, two = bytes(8) + bytes(7) + b"1", bytes(8) + b"2" + bytes(7)
    kept = shared_writer(dataset, job, "a")
    kept.append([one, two], np.eye(2, DIM, dtype=np.float32), [None, True])
    kept.close()
    answers = KeptAnswers(dataset, job)
    answers.refresh()
    (block,) = answers.find(distinct_keys([one])).read()
    found = dict(zip(block.hashes, block.vectors.tolist(), strict=True))
    assert found == {one: [1, 0, 0], two: [0, 1, 0]}
    assert known_hashes(answers, [two, bytes(16)]) == {two}
