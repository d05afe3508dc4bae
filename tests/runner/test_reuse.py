"""`--reuse`: vectors of another dataset are taken, whatever its layout, at no cost."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.cli import Ended, bulkembed, matrix, read, run, snapshot, summary, write_rows

from bulkembed.emulator.server import EmulatorServer
from bulkembed.pipeline import api
from bulkembed.schemas.errors import ConfigError

ROWS = 60
TEXTS = [f"text {n}" for n in range(ROWS)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_rows(tmp_path / "in/a.parquet", TEXTS, lang=["de", "en", "fr"] * 20)
    return tmp_path / "in"


@pytest.fixture
def old(server: EmulatorServer, source: Path, tmp_path: Path) -> Path:
    assert go(server, source, tmp_path / "old").code == 0
    assert server.stats()["texts"] == ROWS
    return tmp_path / "old"


def go(server: EmulatorServer, source: Path, output: Path, *args: object) -> Ended:
    return run(server.url, source, output, "--dim", 128, "--unit-rows", 7, *args)


@pytest.mark.parametrize(
    ("args", "exact"),
    [
        pytest.param(("--keep-columns", "lang"), True, id="kept-column"),
        pytest.param(("--generate-ids",), True, id="ids"),
        pytest.param(("--vector-type", "float16"), False, id="float16"),
        pytest.param(("--vector-encoding", "byte_stream_split"), True, id="encoding"),
        pytest.param(("--unit-rows", 100), True, id="units"),
        pytest.param(("--workers", 2), True, id="workers"),
    ],
)
def test_another_layout_takes_all_vectors_at_no_cost(
    server: EmulatorServer, source: Path, old: Path, tmp_path: Path,
    args: tuple[object, ...], exact: bool,
) -> None:  # fmt: skip
    before = snapshot(old)
    ended = go(server, source, tmp_path / "new", "--reuse", old, *args)
    assert ended.code == 0, ended.err
    assert server.stats()["texts"] == ROWS
    assert snapshot(old) == before
    counts = summary(tmp_path / "new")["counts"]
    assert (counts["texts"], counts["repeated"], counts["reused"]) == (0, 0, ROWS)
    new, was = (read(one).sort_by("source_row") for one in (tmp_path / "new", old))
    assert new["text_hash"].equals(was["text_hash"])
    assert np.allclose(matrix(new), matrix(was), atol=0 if exact else 1e-3)


def command_in(ended: Ended) -> list[str]:
    """Return the words of the command that a refusal ends with, without `bulkembed`."""
    assert ended.code == 2, ended.err
    words = shlex.split(ended.last[ended.last.index("bulkembed run") :])
    return words[1:]


def test_the_refusal_of_another_layout_ends_with_the_command_that_keeps_the_vectors(
    server: EmulatorServer, source: Path, old: Path, tmp_path: Path
) -> None:
    words = command_in(go(server, source, old, "--keep-columns", "lang"))
    new = f"{old}-2"
    assert words == [
        "run", "--input", str(source), "--output", new, "--base-url", server.url, "--dim", "128",
        "--unit-rows", "7", "--keep-columns", "lang", "--reuse", str(old),
    ]  # fmt: skip
    again = bulkembed(*words)
    assert again.code == 0, again.err
    assert read(Path(new))["lang"].to_pylist() == ["de", "en", "fr"] * 20
    assert server.stats()["texts"] == ROWS
    words = command_in(go(server, source, old, "--generate-ids"))
    assert words[4] == f"{old}-3"
    words = command_in(go(server, source, Path(new), "--generate-ids", f"--reuse={old}"))
    assert words[4] == f"{old}-3"
    assert words[-4:] == ["--reuse", str(old), "--reuse", new]
    assert bulkembed(*words).code == 0
    assert server.stats()["texts"] == ROWS


def test_the_command_has_the_options_of_files_and_quotes_what_a_shell_would_read(
    server: EmulatorServer, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text("output: my out/\ninput: 'in/*'\ndim: 128\n")
    args = ("run", "--config", "job.yaml", f"--base-url={server.url}")
    assert bulkembed(*args).code == 0
    refused = bulkembed(*args, "--text-template", "{text} in {lang}", "--", "--streaming")
    assert refused.code == 2
    assert refused.last.endswith(
        f"bulkembed run --config job.yaml --base-url={server.url} --text-template "
        "'{text} in {lang}' --output 'my out-2' --reuse 'my out/' -- --streaming"
    )
    words = command_in(bulkembed(*args, "--keep-columns", "lang"))
    assert bulkembed(*words).code == 0
    assert server.stats()["texts"] == ROWS
    Path("more.yaml").write_text(
        "output: \"out/{date}\"\nreuse: ['my out']\ninput: 'in/*'\ndim: 128\n"
    )
    args = ("run", "--config", "more.yaml", "--base-url", server.url, "--date", "2026-01-31")
    assert bulkembed(*args).code == 0
    words = command_in(bulkembed(*args, "--keep-columns=lang"))
    assert words[-6:] == [
        "--output", "out/{date}-2", "--reuse", "my out", "--reuse", "out/2026-01-31",
    ]  # fmt: skip
    assert bulkembed(*words).code == 0
    assert len(read(tmp_path / "out/2026-01-31-2")) == ROWS
    assert server.stats()["texts"] == ROWS


def test_other_callers_get_the_names_of_the_options(
    server: EmulatorServer, source: Path, old: Path
) -> None:
    with pytest.raises(ConfigError, match=f"another --output and --reuse {old}$"):
        api.run(
            input=source, output=old, base_url=server.url, dim=128, unit_rows=7, keep_columns="lang"
        )
    args = ("--input", source, "--output", old, "--base-url", server.url, "--dim", 128, "--json")
    estimated = bulkembed("estimate", *args, "--keep-columns", "lang")
    assert estimated.code == 2
    assert estimated.last.endswith(
        f"bulkembed estimate {' '.join(map(str, args[:2]))} --output "
        f"{old}-2 {' '.join(map(str, args[4:]))} --keep-columns lang --reuse {old}"
    )


def test_new_texts_are_paid_and_several_datasets_are_searched_in_order(
    server: EmulatorServer, source: Path, old: Path, tmp_path: Path
) -> None:
    write_rows(tmp_path / "more/b.parquet", ["text 0", "other 1", "other 2"])
    assert go(server, tmp_path / "more", tmp_path / "second").code == 0
    paid = server.stats()["texts"]
    assert paid == ROWS + 3
    write_rows(source / "c.parquet", ["other 1", "other 2", "new", "new"])
    reuse = ("--reuse", old, "--reuse", tmp_path / "second")
    ended = go(server, source, tmp_path / "new", *reuse)
    assert ended.code == 0, ended.err
    assert server.stats()["texts"] == paid + 1
    estimated = bulkembed(
        "estimate", "--input", source, "--base-url", server.url, "--dim", 128, "--json", *reuse
    )
    assert json.loads(estimated.out)["texts"]["value"] == 1


def test_an_incomplete_dataset_is_reused_as_far_as_it_goes(
    server: EmulatorServer, source: Path, tmp_path: Path
) -> None:
    assert go(server, source, tmp_path / "old", "--limit-rows", 20).code == 0
    assert go(server, source, tmp_path / "new", "--reuse", tmp_path / "old").code == 0
    assert server.stats()["texts"] == ROWS


def test_passages_of_another_dataset_are_reused(server: EmulatorServer, tmp_path: Path) -> None:
    paragraphs = [f"Paragraph {n} is in several texts, and fills a passage." for n in range(8)]
    texts = ["\n\n".join(paragraphs[n : n + 4]) for n in range(4)]
    write_rows(tmp_path / "in/a.parquet", texts, lang=["de"] * 4)
    args = ("--long-text", "passages", "--passage-tokens", 16, "--passage-overlap", 0)
    assert go(server, tmp_path / "in", tmp_path / "old", *args).code == 0
    paid = server.stats()["texts"]
    more = ("--keep-columns", "lang", "--reuse", tmp_path / "old")
    assert go(server, tmp_path / "in", tmp_path / "new", *args, *more).code == 0
    assert server.stats()["texts"] == paid
    assert len(read(tmp_path / "new")) == len(read(tmp_path / "old"))


def test_a_compacted_dataset_is_reused(
    server: EmulatorServer, source: Path, old: Path, tmp_path: Path
) -> None:
    assert bulkembed("compact", old).code == 0
    write_rows(source / "a.parquet", TEXTS[::-1])
    for output, args in ((tmp_path / "new", ("--reuse", old)), (old, ())):
        ended = go(server, source, output, *args)
        assert ended.code == 0, ended.err
        assert server.stats()["texts"] == ROWS
        assert len(read(output)) == ROWS


def test_vectors_of_other_settings_are_refused_with_the_difference(
    server: EmulatorServer, source: Path, old: Path, tmp_path: Path
) -> None:
    ended = go(server, source, tmp_path / "new", "--task-type", "CLUSTERING", "--reuse", old)
    assert ended.code == 2
    assert f"--reuse {old}" in ended.last
    assert "task_type is 'RETRIEVAL_DOCUMENT' in the dataset and 'CLUSTERING'" in ended.last
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("reuse", "words"),
    [
        pytest.param("missing", "there is no dataset", id="missing"),
        pytest.param("in", "there is no dataset", id="no-dataset"),
        pytest.param("old", "is the --output", id="output"),
        pytest.param("old/../old/", "is the --output", id="output-otherwise-spelled"),
        pytest.param("old/inner", "is inside of the --output", id="inside"),
    ],
)
def test_a_folder_that_cannot_be_reused_is_an_error(
    server: EmulatorServer, source: Path, old: Path, tmp_path: Path, reuse: str, words: str
) -> None:
    shutil.copytree(old, tmp_path / "copy")
    shutil.copytree(tmp_path / "copy", old / "inner")
    before = snapshot(old)
    ended = go(server, source, old, "--reuse", f"{tmp_path}/{reuse}")
    assert ended.code == 2
    assert words in ended.last
    assert snapshot(old) == before


def test_a_part_that_cannot_be_read_is_paid_again(
    server: EmulatorServer, source: Path, old: Path, tmp_path: Path
) -> None:
    part = sorted((old / "vectors").iterdir())[0]
    part.write_bytes(part.read_bytes()[:-100])
    ended = go(server, source, tmp_path / "new", "--reuse", old)
    assert ended.code == 0, ended.err
    assert server.stats()["texts"] == ROWS + 7
    assert len(read(tmp_path / "new")) == ROWS


def test_reuse_without_deduplication_is_an_error(
    server: EmulatorServer, source: Path, old: Path, tmp_path: Path
) -> None:
    ended = go(server, source, tmp_path / "new", "--reuse", old, "--dedupe", "unit")
    assert ended.code == 2
    assert "--reuse needs --dedupe run" in ended.last
