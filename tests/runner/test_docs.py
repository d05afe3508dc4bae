"""The pages agree with the code: flags, links, tests and tables that they name exist."""

from __future__ import annotations

import importlib
import re
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from support.pages import FENCE, PAGES, ROOT

from bulkembed.pipeline.cli.flags_page import flags_page
from bulkembed.pipeline.cli.main import COMMANDS
from bulkembed.pipeline.cli.options import OPTIONS
from bulkembed.pipeline.progress.progress import progress_facts
from bulkembed.pipeline.progress.snapshot import Goal, Rates, take_snapshot
from bulkembed.pipeline.run.summary import RowCounts
from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.findings import Check
from bulkembed.schemas.live import Live, Waiting
from bulkembed.schemas.models import MODELS, TaskType
from bulkembed.schemas.output_schema import dead_letters_schema, vectors_schema
from bulkembed.schemas.stop import ExitCode

README = ROOT / "README.md"
OUTPUT = ROOT / "docs/output.md"
DEAD_LETTERS = ROOT / "docs/dead_letters.md"
VERIFY = ROOT / "docs/verify.md"
SEARCH = ROOT / "docs/search.md"
LIBRARY = ROOT / "docs/library.md"
REPORT = ROOT / "docs/report.md"
ESTIMATE = ROOT / "docs/estimate.md"
PROGRESS = ROOT / "docs/progress.md"
FLAGS = {flag for option in OPTIONS for flag in (*option.opts, *option.secondary_opts)}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def flags_of(command: str) -> set[str]:
    """Return the flags of a command other than `run`."""
    module, name = COMMANDS[command]
    options = getattr(importlib.import_module(module), name).params
    flags = {flag for one in options for flag in (*one.opts, *one.secondary_opts)}
    return {flag for flag in flags if flag.startswith("--")}


def table_flags(page: Path) -> set[str]:
    """Return the flags in the first column of the tables of a page."""
    rows = re.findall(r"^\| (`--.*?`) \| ", page.read_text(), re.MULTILINE)
    return {flag for row in rows for flag in re.findall(r"--[a-z][a-z-]*", row)}


def test_the_page_of_flags_is_made_from_the_code() -> None:
    assert (ROOT / "docs/flags.md").read_text() == flags_page(), "run `make flags`"


def test_the_page_of_flags_names_every_flag_of_every_command() -> None:
    page = flags_page()
    for command in COMMANDS:
        assert f"\n## bulkembed {command}\n" in page
        assert (
            sorted(flag for flag in flags_of(command) if not re.search(rf"[` ]{flag}\b", page))
            == []
        )


def test_a_command_in_a_help_text_is_one_piece_of_code_in_the_page_of_flags() -> None:
    assert "`bulkembed check --json FILE`" in flags_page()


def test_the_readme_has_the_required_flags() -> None:
    named = table_flags(README)
    assert {option.opts[0] for option in OPTIONS if option.required} <= named <= FLAGS


@pytest.mark.parametrize("page", [README, ROOT / "docs/exit_codes.md"], ids=lambda page: page.name)
def test_pages_list_every_exit_code(page: Path) -> None:
    named = re.findall(r"^\| (\d+) \|", page.read_text(), re.MULTILINE)
    assert list(map(int, named)) == list(ExitCode)


@each_page
def test_flags_in_prose_exist(page: Path) -> None:
    if page.name == "benchmarks.md":
        pytest.skip("its flags are those of the benchmarks")
    others = {"--help", "--version"}.union(*map(flags_of, COMMANDS))
    if page.name == "CHANGELOG.md":
        others |= {alias for option in OPTIONS for alias in option.aliases}
    others |= {f"--{name}" for name in PipelineOptions([]).get_all_options()}
    if page.name == "CHANGELOG.md":
        others.update(*(option.aliases for option in OPTIONS))
    text = FENCE.sub("", page.read_text())
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9_-]+", text))
    assert named <= FLAGS | others


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_each_make_target_has_rules_for_all_that_it_needs() -> None:
    command = ["make", "--dry-run", *sorted(make_targets())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_make_targets_that_pages_name_exist() -> None:
    targets = make_targets()
    for page in PAGES:
        named = re.findall(r"(?:^|`| {4})make ([a-z][a-z-]*)\b", page.read_text(), re.MULTILINE)
        assert set(named) <= targets, page.name


def test_subcommands_that_pages_name_exist() -> None:
    for page in PAGES:
        named = re.findall(r"`bulkembed ([a-z]+)\b", page.read_text())
        named += re.findall(r"^bulkembed ([a-z]+) -", page.read_text(), re.MULTILINE)
        assert set(named) <= set(COMMANDS), page.name


@each_page
def test_link_targets_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


def test_the_tests_that_guard_the_pitfalls_exist() -> None:
    named = re.findall(r"`(test_\w+)`", (ROOT / "docs/pitfalls.md").read_text())
    files = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    existing = {name for text in files for name in re.findall(r"def (test_\w+)", text)}
    assert len(named) > 30
    assert not sorted(set(named) - existing)


def pointers() -> list[tuple[str, str]]:
    """Return the code that pages point to: `file.py` `name`, or several names of one file."""
    named = re.compile(r"`(\w[\w/]+\.py)` (`\w+`(?:, `\w+`)*)")
    found = [match for page in PAGES for match in named.findall(page.read_text())]
    return [(file, name) for file, names in found for name in re.findall(r"\w+", names)]


@pytest.mark.parametrize(("file", "name"), pointers())
def test_the_code_that_pages_point_to_exists(file: str, name: str) -> None:
    text = (ROOT / file).read_text()
    assert re.search(rf"^(?:def|async def|class) {name}\b", text, re.MULTILINE)


def test_the_pages_of_the_output_name_every_column_and_code() -> None:
    text = OUTPUT.read_text() + DEAD_LETTERS.read_text()
    row = pa.schema([("id", pa.int64())])
    for name in (*vectors_schema(row, 8, "float32", {}).names, *dead_letters_schema(row, {}).names):
        assert f"`{name}`" in text
    assert {code.value for code in DeadCode} <= set(re.findall(r"^\| `(\w+)` \|", text, re.M))


def test_the_verify_page_names_every_check() -> None:
    named = re.findall(r"^\| `(\w+)` \|", VERIFY.read_text(), re.MULTILINE)
    assert named == [check.value for check in Check]


def test_the_models_page_is_the_registry() -> None:
    text = (ROOT / "docs/models.md").read_text()
    lines = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}
    assert lines.keys() >= MODELS.keys(), "add a row for each model to docs/models.md"
    for spec in MODELS.values():
        line = lines[spec.name]
        assert f"| {spec.default_dim:,} |" in line
        assert f"| {spec.max_tokens:,} |" in line
        assert f"| {spec.task_style} |" in line
    for task in TaskType:
        assert f"\n| {task}" in text
        prefixes = MODELS["gemini-embedding-2"].prefixes or {}
        assert f"`{prefixes[task]}`".replace("|", "\\|") in text


def test_the_progress_page_names_every_number_and_reason() -> None:
    named = {
        name
        for cell in re.findall(r"^\| (`[^|]*) \|", (PROGRESS).read_text(), re.MULTILINE)
        for name in re.findall(r"`(\w+)`", cell)
    }
    nothing = take_snapshot(Goal(RowCounts()), Live(), 0.0, Rates())
    facts = {
        name.replace("tpm_", "rpm_").replace("rpd_", "rpm_") for name in progress_facts(nothing)
    }
    assert named == facts | set(Waiting) | {"dead_CODE", "waiting"}
