"""What was paid for is found again, and nothing else is, however the file was cut or spoilt."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.jobs import KEY

from schemas.errors import OutputError
from schemas.units import Unit
from transforms.clients.decode import Matrix
from transforms.core.hashing import HASH_BYTES, text_hash
from transforms.storage.dataset import Dataset
from transforms.storage.spill import Spill
from transforms.storage.spill_file import SpillWriter

UNIT = Unit(KEY, 0, 9)
DIM = 3
CALLS = (("one", "two"), ("three",), ("four", "five", "six"))
FLAGS: tuple[bool | None, ...] = (False, True, None)


def vector(text: str) -> Matrix:
    return np.frombuffer(text_hash(None, text)[: 4 * DIM], np.uint8)[:DIM].astype(np.float32)


def flag(text: str) -> bool | None:
    return FLAGS[len(text) % 3]


def write(folder: Path, run_id: str = "before") -> Path:
    """A spill of three calls; the unit was not committed."""
    writer = Spill(Dataset.open(str(folder)), run_id).writer(UNIT)
    for texts in CALLS:
        hashes = [text_hash(None, text) for text in texts]
        writer.append(hashes, np.stack([vector(t) for t in texts]), [flag(t) for t in texts])
    writer.close(committed=False)
    (path,) = (folder / "_run/spill").iterdir()
    return path


def found(folder: Path) -> set[str]:
    """The texts that the next run finds; each must have its own vector and flag."""
    spill = Spill(Dataset.open(str(folder)), "after")
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
        size += 16 + len(texts) * (HASH_BYTES + 1 + 4 * DIM)
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
    assert len(Spill(Dataset.open(str(tmp_path)), "same")) == 0


def test_the_commit_of_the_unit_removes_its_spill_and_no_other(tmp_path: Path) -> None:
    other = write(tmp_path)
    writer = Spill(Dataset.open(str(tmp_path)), "now").writer(UNIT)
    writer.append([text_hash(None, "x")], np.ones((1, DIM), np.float32), [None])
    assert len(list((tmp_path / "_run/spill").iterdir())) == 2
    writer.close(committed=True)
    assert list((tmp_path / "_run/spill").iterdir()) == [other]


def test_a_unit_without_an_answer_leaves_no_file(tmp_path: Path) -> None:
    Spill(Dataset.open(str(tmp_path)), "now").writer(UNIT).close(committed=False)
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
