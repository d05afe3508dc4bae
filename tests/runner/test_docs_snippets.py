"""The code blocks of the pages are run, or at least parsed."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from support.pages import (
    ELSEWHERE,
    NOT_RUN,
    PAGES,
    ROOT,
    SHELLS,
    fences,
    of_language,
    run_snippets,
    understand,
)

from bulkembed.pipeline.cli.main import COMMANDS

README_AND_DOCS = [page for page in PAGES if fences(page)]
COMMAND_LINE = re.compile(r"^(?:\$ |(?:bulkembed|make|pip|python) )", re.MULTILINE)
SETTINGS = {"schedule.md": {"ini", "crontab"}, "kubernetes.md": {"yaml", "dockerfile"}}
"""Languages that tests/runner/test_docs_schedule.py reads."""
OF_OTHERS = {"export", "gcloud", "kubectl", "source", "sudo"}
"""Programs in commands that are not run, besides `bulkembed`, `make` and `pip`."""

each_page = pytest.mark.parametrize("page", README_AND_DOCS, ids=lambda page: page.name)


@pytest.mark.docs
@each_page
def test_the_programs_of_a_page_run_in_order(
    page: Path, workplace: Path, at_home: dict[str, str]
) -> None:
    runs = [fence for fence in fences(page) if fence.runs_here]
    for language, group in itertools.groupby(runs, key=lambda fence: fence.language):
        run_snippets(language, [fence.code for fence in group], workplace, at_home)


@each_page
def test_every_block_of_a_page_is_tested(page: Path) -> None:
    settings = SETTINGS.get(page.name, set())
    assert {fence.language for fence in fences(page)} <= {*SHELLS, "sh", "text", *settings}
    # What the examples print is compared with their page by tests/examples, their commands with it.
    for output in of_language(page, "text") if page.name != "examples.md" else ():
        assert not COMMAND_LINE.search(output), f"a command, in a fence of output: {output}"
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert not re.search(r"^(?: {4}|\t)", prose, re.MULTILINE), "code without a fence"


@each_page
def test_programs_for_other_packages_name_one_that_a_test_installs(page: Path) -> None:
    there = (ROOT / "tests/readers/readers.in").read_text()
    for code in of_language(page, "python"):
        if code.startswith(ELSEWHERE):
            name = code.splitlines()[0].removeprefix(ELSEWHERE)
            assert re.search(rf"^{re.escape(name)}[>=]", there, re.MULTILINE)


@pytest.fixture
def job_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the file of settings that commands of the pages name."""
    (tmp_path / "job.yaml").write_text("input: shards\noutput: out\n")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("job_file")
@pytest.mark.parametrize(
    "page", [page for page in PAGES if of_language(page, "sh")], ids=lambda page: page.name
)
def test_commands_that_cannot_be_run_are_marked_and_valid(page: Path) -> None:
    for fence in fences(page):
        if fence.language != "sh":
            continue
        assert fence.comment.startswith(NOT_RUN)
        code = fence.code
        subprocess.run(["bash", "-n", "-c", code], check=True, timeout=10)
        for line in code.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                check_command(words)


def check_command(words: list[str]) -> None:
    if "|" in words:
        check_command(words[: words.index("|")])
        words = words[words.index("|") + 1 :]
    program, *rest = words
    if program == "eval":
        [output_of] = rest
        check_command(shlex.split(output_of.removeprefix("$(").removesuffix(")")))
        return
    if program == "bulkembed":
        understand(rest)
    elif program == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif program == "pip":
        assert {Requirement(word).name for word in rest[1:]} <= dependencies()
    else:
        assert program in OF_OTHERS


def dependencies() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    return {Requirement(one).name for one in itertools.chain(project["dependencies"], *extras)}


def test_a_command_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(AssertionError, match="there is no"):
        understand(["fly"])
    assert COMMAND_LINE.search(f"bulkembed {next(iter(COMMANDS))} --input a")
