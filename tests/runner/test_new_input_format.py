"""A new input format takes one module and one entry: `support.tsv` is the module."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from support.cli import dead_codes, read, run
from support.inputs import find_files, read_all
from support.tsv import TSV

from bulkembed.emulator.server import EmulatorServer
from bulkembed.schemas.errors import ConfigError, InputError
from bulkembed.schemas.inputs import InputColumns
from bulkembed.transforms.inputs.formats import FORMATS, known_endings, known_titles

CONTENT = "id\tcolor\ttext\n1\tgreen\ton\u00e9\n2\tred\ttwo\n\tred\tthree\n".encode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.tsv").write_bytes(CONTENT)
    (tmp_path / "in/b.tsv.gz").write_bytes(gzip.compress(CONTENT))
    return tmp_path / "in"


@pytest.fixture
def tsv(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one entry."""
    monkeypatch.setitem(FORMATS, "tsv", TSV)


@pytest.mark.usefixtures("tsv")
def test_files_of_a_new_format_are_found_scanned_and_read(folder: Path) -> None:
    found = find_files([str(folder)])
    assert [(file.name, file.format, file.compression) for file in found] == [
        ("a.tsv", "tsv", None),
        ("b.tsv.gz", "tsv", "gzip"),
    ]
    schema, batches = read_all(folder, InputColumns(keep_columns=("color",)))
    assert schema.names == ["id", "color"]
    for batch in batches:
        assert batch.ids.to_pylist() == ["1", "2", None]
        assert batch.texts == ["on\u00e9", "two", "three"]
        assert batch.kept.column("color").to_pylist() == ["green", "red", "red"]
        assert list(batch.bad) == [2]


@pytest.mark.usefixtures("tsv")
def test_a_job_embeds_files_of_a_new_format(
    folder: Path, output: Path, server: EmulatorServer
) -> None:
    ended = run(server.url, folder, output, "--dim", 128, "--keep-columns", "color")
    assert ended.code == 0, ended.err
    assert sorted(read(output).column("color").to_pylist()) == ["green", "green", "red", "red"]
    assert dead_codes(output).keys() == {2}


@pytest.mark.usefixtures("tsv")
def test_the_content_still_decides_under_the_name_of_a_new_format(folder: Path) -> None:
    (folder / "a.tsv").write_bytes(b"\xfd7zXZ\x00")
    with pytest.raises(InputError, match=r"a\.tsv is xz data"):
        read_all(folder)


@pytest.mark.usefixtures("tsv")
def test_messages_list_a_new_format() -> None:
    *others, last = [known.title for known in FORMATS.values()]
    assert (others[:2], last) == (["Parquet", "JSONL"], "TSV")
    assert known_titles() == f"{', '.join(others)} or TSV"
    assert ".tsv" in known_endings()


def test_without_the_entry_the_format_is_named_as_not_supported(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"TSV is not supported\. Convert the file to Parquet"):
        find_files([f"{folder}/a.tsv"])
    with pytest.raises(ConfigError, match="It has TSV files, which are not supported"):
        find_files([str(folder)])
