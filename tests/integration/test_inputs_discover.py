"""Patterns against folders that really are there."""

import os
from pathlib import Path

import pytest
from support.inputs import find_files

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.inputs import FoundFile
from bulkembed.transforms.inputs.discover import find_input, looks_like_data

TREE = (
    "a.parquet", "b.jsonl", "c.ndjson.ZST", "notes.txt", "_old.parquet", ".hidden.parquet",
    "deep/d.parquet", "deep/er/e.JSONL.gz", "_tmp/f.parquet", ".git/g.parquet",
    "odd/a[1].parquet", "odd/a1.parquet", "odd/sp ace #1 50%.parquet", "odd/ünï.jsonl.bz2",
)  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "in"
    for name in TREE:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def names(found: list[FoundFile]) -> list[str]:
    return [file.name for file in found]


ALL = [
    "a.parquet", "b.jsonl", "c.ndjson.ZST", "deep/d.parquet", "deep/er/e.JSONL.gz",
    "odd/a1.parquet", "odd/a[1].parquet", "odd/sp ace #1 50%.parquet", "odd/ünï.jsonl.bz2",
]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        pytest.param("", ALL, id="folder"),
        pytest.param("/", ALL, id="folder-with-slash"),
        pytest.param("/*.parquet", ["_old.parquet", "a.parquet"], id="star-stays-in-its-folder"),
        pytest.param("/a*", ["a.parquet"], id="star-last"),
        pytest.param(
            "/**/*.parquet",
            ["_old.parquet", *(name for name in ALL if name.endswith("parquet"))],
            id="two-stars-match-the-top-too",
        ),
        pytest.param("/**/d*", ["deep/d.parquet"], id="two-stars-then-one"),
        pytest.param("/deep/**", ["d.parquet", "er/e.JSONL.gz"], id="two-stars-last"),
        pytest.param("/*/*/*.gz", ["deep/er/e.JSONL.gz"], id="a-star-a-folder"),
        pytest.param("/odd/a[1].parquet", ["a[1].parquet"], id="a-name-comes-before-a-glob"),
        pytest.param("/odd/a[0-9].parquet", ["a1.parquet"], id="class"),
        pytest.param("/odd/a[!2].parquet", ["a1.parquet"], id="negated-class"),
        pytest.param("/odd/a[[]1].parquet", ["a[1].parquet"], id="bracket-in-a-class"),
        pytest.param("/odd/?1.parquet", ["a1.parquet"], id="question-mark"),
        pytest.param(
            "/odd/sp ace #1 50%.parquet", ["sp ace #1 50%.parquet"], id="space-hash-percent"
        ),
        pytest.param("/odd/ünï.jsonl.bz2", ["ünï.jsonl.bz2"], id="non-ascii"),
        pytest.param("/_old.parquet", ["_old.parquet"], id="underscore-named-outright"),
    ],
)
def test_a_pattern_matches_these_names(tree: Path, pattern: str, expected: list[str]) -> None:
    assert names(find_files([f"{tree}{pattern}"])) == expected


def test_format_and_compression_follow_from_the_name_in_any_case(tree: Path) -> None:
    kinds = {file.name: (file.format, file.compression) for file in find_files([str(tree)])}
    assert kinds["a.parquet"] == ("parquet", None)
    assert kinds["b.jsonl"] == ("jsonl", None)
    assert kinds["c.ndjson.ZST"] == ("jsonl", "zstd")
    assert kinds["deep/er/e.JSONL.gz"] == ("jsonl", "gzip")
    assert kinds["odd/ünï.jsonl.bz2"] == ("jsonl", "bz2")


def test_a_file_uri_is_percent_decoded(tree: Path) -> None:
    uri = (tree / "odd" / "sp ace #1 50%.parquet").as_uri()
    assert "%20" in uri
    assert names(find_files([uri])) == ["sp ace #1 50%.parquet"]
    assert names(find_files([f"{tree.as_uri()}/**/e.*"])) == ["deep/er/e.JSONL.gz"]


def test_relative_and_home_paths_are_made_absolute(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree)
    monkeypatch.setenv("HOME", str(tree))
    for pattern in ("a.parquet", "./deep/../a.parquet", "~/a.parquet"):
        (found,) = find_files([pattern])
        assert (found.path, found.name) == (str(tree / "a.parquet"), "a.parquet")


def test_size_and_time_are_those_of_the_file(tree: Path) -> None:
    (found,) = find_files([str(tree / "a.parquet")])
    stat = (tree / "a.parquet").stat()
    assert (found.size_bytes, found.mtime_ns) == (stat.st_size, stat.st_mtime_ns)


def test_a_file_matched_twice_is_listed_once(tree: Path) -> None:
    found = find_files([str(tree / "deep"), f"{tree}/**/d.parquet", f"{tree}/deep/d.parquet"])
    assert names(found) == ["d.parquet", "er/e.JSONL.gz"]


def test_a_second_file_of_one_name_gets_its_parent_folders_in_its_name(tmp_path: Path) -> None:
    for folder in ("x/p", "y/p", "z"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.parquet").touch()
    patterns = [f"{tmp_path}/{folder}/*.parquet" for folder in ("z", "x/p", "y/p")]
    found = {file.path.removeprefix(f"{tmp_path}/"): file.name for file in find_files(patterns)}
    assert found == {
        "z/a.parquet": "a.parquet",
        "x/p/a.parquet": "p/a.parquet",
        "y/p/a.parquet": "y/p/a.parquet",
    }


def test_a_loop_of_links_is_entered_once(tree: Path) -> None:
    (tree / "deep" / "loop").symlink_to(tree)
    (tree / "deep" / "gone").symlink_to(tree / "nowhere")
    assert names(find_files([str(tree)])) == ALL


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        pytest.param("/gone.parquet", ["gone.parquet", " has ", "a.parquet"], id="no-such-file"),
        pytest.param("/gone/x/y.parquet", ["gone/x/y.parquet", " has "], id="no-such-folder"),
        pytest.param("/*.orc", ["*.orc", "ignored", "a.parquet"], id="glob-of-nothing"),
        pytest.param("/_tm*/*", ["_tm*/*", "_"], id="ignored"),
        pytest.param("/*", ["notes.txt", ".parquet", "--format"], id="unknown-kind-in-a-glob"),
        pytest.param("/notes.txt", ["notes.txt", ".ndjson", "--format"], id="unknown-kind"),
        pytest.param("/a[z-a]*", ["a[z-a]*"], id="class-backwards"),
    ],
)
def test_the_error_for_a_pattern_without_a_match_names_it(
    tree: Path, pattern: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        find_files([f"{tree}{pattern}"])
    assert all(word in caught.value.message for word in words), caught.value.message


def test_the_error_for_an_empty_folder_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no input files"):
        find_files([str(tmp_path)])


def test_the_format_flag_accepts_any_name(tree: Path) -> None:
    (found,) = find_files([f"{tree}/notes.txt"], "jsonl")
    assert (found.format, found.compression) == ("jsonl", None)
    (tree / "log.gz").touch()
    (found,) = find_files([f"{tree}/log.gz"], "jsonl")
    assert found.compression == "gzip"
    assert "notes.txt" in names(find_files([str(tree)], "parquet"))


@pytest.mark.parametrize(
    ("pattern", "output"),
    [
        pytest.param("", "out", id="in-a-folder"),
        pytest.param("", "", id="the-folder-itself"),
        pytest.param("/**/*.parquet", "out", id="two-stars"),
        pytest.param("/*/*/*.parquet", "out", id="as-deep-as-the-parts"),
        pytest.param("/*/*.parquet", "", id="parts-one-below"),
        pytest.param("/deep", "..", id="output-above-is-fine"),
    ],
)
def test_an_output_that_would_be_read_is_rejected(tree: Path, pattern: str, output: str) -> None:
    if output == "..":
        assert find_files([f"{tree}{pattern}"], output=str(tree.parent))
        return
    with pytest.raises(ConfigError, match="--output"):
        find_files([f"{tree}{pattern}"], output=str(tree / output))


def test_an_output_cannot_be_its_own_input(tree: Path) -> None:
    (tree / "vectors").mkdir()
    (tree / "vectors" / "x.parquet").touch()
    for pattern in (f"{tree}/vectors", f"{tree}/vectors/x*.parquet"):
        with pytest.raises(ConfigError, match="--output"):
            find_files([pattern], output=str(tree))


@pytest.mark.parametrize(
    ("pattern", "output"),
    [
        pytest.param("/*.parquet", "out", id="star-does-not-cross-folders"),
        pytest.param("", "../out", id="beside"),
        pytest.param("", "_out", id="ignored"),
        pytest.param("/**/*.jsonl", "out", id="another-kind"),
        pytest.param("/a.parquet", "", id="one-file"),
    ],
)
def test_an_output_that_would_not_be_read_is_accepted(
    tree: Path, pattern: str, output: str
) -> None:
    assert find_files([f"{tree}{pattern}"], output=str(tree / output))


def test_an_output_reached_by_a_link_is_rejected_too(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tree)
    with pytest.raises(ConfigError, match="--output"):
        find_files([str(tree)], output=str(tmp_path / "link" / "out"))


BESIDE = (
    "a.parquet", "b.parq", "b2.pq", "c.json", "d.jsonl.xz", "e.jsonl.1", "f.parquet.gz", "g.jl",
    "_h.jsonl", ".i.parquet", "README.md", "j.orc", "a.parquet.crc", "_SUCCESS", ".DS_Store",
    "_metadata", "_tmp/k.parquet", ".git/l.parquet", "deep/m.avro", "deep/.n.jsonl.crc",
)  # fmt: skip


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    for name in BESIDE:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text(name)
    return tmp_path / "in"


def test_a_folder_matches_data_files_and_the_others_are_listed_as_ignored(mixed: Path) -> None:
    listing = find_input([str(mixed)])
    assert [file.name for file in listing.files] == [
        "a.parquet", "b.parq", "b2.pq", "c.json", "d.jsonl.xz", "e.jsonl.1", "f.parquet.gz", "g.jl",
    ]  # fmt: skip
    assert listing.ignored == (
        ".git/", ".i.parquet", "README.md", "_h.jsonl", "_tmp/", "a.parquet.crc", "deep/m.avro",
        "j.orc",
    )  # fmt: skip
    assert [name for name in listing.ignored if looks_like_data(name)] == [
        ".git/", ".i.parquet", "_h.jsonl", "_tmp/", "deep/m.avro", "j.orc",
    ]  # fmt: skip


def test_a_glob_matches_data_files_with_a_leading_underscore(mixed: Path) -> None:
    listing = find_input([f"{mixed}/*.jsonl"])
    assert [file.name for file in listing.files] == ["_h.jsonl"]
    listing = find_input([f"{mixed}/*.parquet"])
    assert [file.name for file in listing.files] == ["a.parquet"]
    assert listing.ignored == (".i.parquet",)
    assert names(find_files([f"{mixed}/.*.parquet"])) == [".i.parquet"]
    (mixed / "all").mkdir()
    (mixed / "all/_x.jsonl").touch()
    (mixed / "all/x.jsonl").touch()
    listing = find_input([f"{mixed}/all/*"])
    assert [file.name for file in listing.files] == ["x.jsonl"]
    assert listing.ignored == ("_x.jsonl",)


def test_a_file_that_another_pattern_matches_is_not_listed_as_ignored(mixed: Path) -> None:
    listing = find_input([str(mixed), str(mixed / "_h.jsonl")])
    assert "_h.jsonl" in [file.name for file in listing.files]
    assert "_h.jsonl" not in listing.ignored


def test_a_folder_that_a_glob_for_files_matches_is_listed_as_ignored(tmp_path: Path) -> None:
    (tmp_path / "b.parquet").mkdir()
    (tmp_path / "b.parquet/part-0.parquet").touch()
    (tmp_path / "a.parquet").touch()
    listing = find_input([f"{tmp_path}/*.parquet"])
    assert [file.name for file in listing.files] == ["a.parquet"]
    assert listing.ignored == ("b.parquet/",)


def test_broken_links_and_pipes_are_listed_as_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "b.jsonl")
    (tmp_path / "c.jsonl").touch()
    for pattern in (str(tmp_path), f"{tmp_path}/*"):
        listing = find_input([pattern])
        assert [file.name for file in listing.files] == ["c.jsonl"]
        link, pipe = (error.message for error in listing.unreadable)
        assert "a.jsonl is a link to a missing file" in link
        assert "b.jsonl is a pipe" in pipe


TABLES = {
    "a Delta table": "_delta_log/00000000000000000000.json",
    "a Hudi table": ".hoodie/hoodie.properties",
    "an Iceberg table": "metadata/00000-ab.metadata.json",
    "the output of a Spark stream": "_spark_metadata/0",
}


@pytest.mark.parametrize("what", TABLES)
@pytest.mark.parametrize(
    "pattern",
    ["", "/", "/t", "/t/*.parquet", "/**/*.parquet", "/t/day=1", "/t/day=1/*", "/t/day=1/p.parquet",
     "/t/p.parquet", "/*/day=*/*.parquet"],
)  # fmt: skip
def test_the_files_of_a_table_are_rejected_without_the_flag(
    tmp_path: Path, what: str, pattern: str
) -> None:
    root = tmp_path / "in"
    for name in ("p.parquet", "day=1/p.parquet", TABLES[what]):
        (root / "t" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "t" / name).touch()
    with pytest.raises(ConfigError) as caught:
        find_input([f"{root}{pattern}"])
    assert f"{root}/t is {what}" in caught.value.message
    assert "--table-files-as-they-are" in caught.value.message
    assert find_input([f"{root}{pattern}"], tables_as_files=True).files


@pytest.mark.parametrize(
    "pattern", ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0", "/dev/null"]
)
def test_a_stream_is_rejected(pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"more than once.*Write it to a file"):
        find_files([pattern])
