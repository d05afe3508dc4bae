"""Update docs/examples.md with the output and picture of each example.

Run it with `python -m examples.page`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/examples.md"
PICTURES = ROOT / "docs/examples"
SECTION = re.compile(
    r"(?<=python -m examples\.)(\w+)(?P<between>\n```\n.*?\n```text\n)(.*?)(?=```)", re.DOTALL
)
"""The name of an example, the text up to its output, and its output."""
PYTHON = re.compile(r"(?<=Python )3\.\d+\.\d+")


def printed() -> dict[str, str]:
    """Return the output of each example, as the page has it."""
    return {found[1]: found[3] for found in SECTION.finditer(PAGE.read_text())}


def python_of_page() -> str:
    """Return the version of Python that made the output on the page."""
    found = PYTHON.search(PAGE.read_text())
    return found[0] if found else ""


def update(folder: Path) -> None:
    """Run every example of the page in a folder, and put output and pictures into docs/."""

    def run(found: re.Match[str]) -> str:
        command = [sys.executable, "-m", f"examples.{found[1]}"]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
        shutil.copy(folder / f"out/examples/{found[1]}.png", PICTURES)
        lines = (line.rstrip() + "\n" for line in done.stdout.splitlines())
        return f"{found[1]}{found['between']}{''.join(lines)}"

    PICTURES.mkdir(exist_ok=True)
    text = SECTION.sub(run, PAGE.read_text())
    PAGE.write_text(PYTHON.sub(sys.version.split()[0], text))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        update(Path(folder))
