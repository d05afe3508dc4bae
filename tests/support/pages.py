"""The pages of the documentation, and the code blocks in them."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from bulkembed.pipeline.cli.commands import BEAM_ARGS
from bulkembed.pipeline.cli.main import cli
from bulkembed.pipeline.cli.run_command import request_from

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
FENCE = re.compile(r"^(?:<!-- ([^\n]*?) -->\n\n?)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
"""A fence, and the comment right above it, which readers of the page do not see."""
ELSEWHERE = "# pip install "
"""The first line of a snippet that needs a package which `make test` does not install."""
NOT_RUN = "parsed, not run: "
"""How the comment begins above commands that a test parses but cannot run; the reason follows."""
SNIPPETS_S = 100
SHELLS = {
    "bash": ("bash", "-euc", 'for code in "$@"; do bash -euo pipefail -c "$code"; done', "-"),
    # Each snippet has names of its own; libraries are imported once.
    "python": ("-c", "import sys\nfor code in sys.argv[1:]: exec(code, {})"),
}


@dataclasses.dataclass(frozen=True)
class Fence:
    """A fenced block of a page, with the comment above it."""

    comment: str
    language: str
    code: str

    @property
    def runs_here(self) -> bool:
        """Whether `make test` can run the block."""
        return self.language in SHELLS and not self.code.startswith(ELSEWHERE)


def fences(page: Path) -> list[Fence]:
    """Return all fenced blocks of a page, in order."""
    return [Fence(*found) for found in FENCE.findall(page.read_text())]


def of_language(page: Path, language: str) -> list[str]:
    """Return the code of all blocks in one language."""
    return [fence.code for fence in fences(page) if fence.language == language]


def run_snippets(
    language: str,
    codes: Iterable[str],
    place: Path,
    env: dict[str, str],
    python: str = sys.executable,
) -> str:
    """Run snippets one after the other in one process, and return what they print."""
    command = [*([python] if language == "python" else []), *SHELLS[language], *codes]
    done = subprocess.run(
        command, cwd=place, env=env, capture_output=True, text=True, timeout=SNIPPETS_S
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def understand(words: list[str]) -> None:
    """Parse the words after `bulkembed`, and check the settings of a run or an estimate.

    Raises:
        click.ClickException: no such command, flag or value.
        ConfigError: flags that do not go together.
    """
    root = click.Context(cli, info_name="bulkembed")
    name, *args = words
    command = cli.get_command(root, name)
    assert command is not None, f"there is no `bulkembed {name}`"
    ctx = command.make_context(name, args, parent=root)
    if name in ("run", "estimate"):
        request_from(ctx.params, ctx.meta.get(BEAM_ARGS, ()))
