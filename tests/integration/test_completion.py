"""`bulkembed completion` and `--version`."""

from __future__ import annotations

import os
import shutil
import sys
from importlib import metadata
from pathlib import Path

import pytest
from support.cli import bulkembed, process

from bulkembed.pipeline.cli.main import SHELLS

COMPLETE = """
eval "$(bulkembed completion bash)"
COMP_WORDS=({words}) COMP_CWORD={last}
_bulkembed_completion bulkembed
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        pytest.param("bulkembed st", {"status"}, id="a-command"),
        pytest.param("bulkembed run --log-", {"--log-level", "--log-json"}, id="flags"),
        pytest.param("bulkembed run --dedupe ''", {"run", "unit", "off"}, id="a-flags-values"),
        pytest.param("bulkembed completion f", {"fish"}, id="an-arguments-values"),
    ],
)
def test_bash_completes_what_is_typed(typed: str, offered: set[str]) -> None:
    here = str(Path(sys.executable).parent)
    code = COMPLETE.format(words=typed, last=typed.count(" "))
    found = process("bash", "-euc", code, PATH=f"{here}{os.pathsep}{os.environ['PATH']}")
    assert found.code == 0, found.err
    assert set(found.out.split()) == offered


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_its_own_script(shell: str) -> None:
    found = bulkembed("completion", shell)
    assert found.code == 0
    assert f"_BULKEMBED_COMPLETE={shell}_complete" in found.out


def test_an_unknown_shell_is_a_usage_error() -> None:
    found = bulkembed("completion", "tcsh")
    assert found.code == 2
    assert found.err.startswith("bulkembed: SHELL: unknown value 'tcsh'.")


def test_the_version_is_that_of_the_package() -> None:
    found = bulkembed("--version")
    assert (found.code, found.out) == (0, f"bulkembed, version {metadata.version('bulkembed')}\n")
