"""`python -m examples.page` renews docs/examples.md: what each example prints, and its picture."""

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
"""An example's name, what stands between, and what it printed."""
PYTHON = re.compile(r"(?<=Python )3\.\d+\.\d+")


def printed() -> dict[str, str]:
    """What the page says that each example prints."""
    return {found[1]: found[3] for found in SECTION.finditer(PAGE.read_text())}


def python_of_page() -> str:
    """The version of Python whose library's texts the page is about."""
    found = PYTHON.search(PAGE.read_text())
    return found[0] if found else ""


def renew(folder: Path) -> None:
    """Runs every example of the page in a folder, and puts text and pictures into docs/."""

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
        renew(Path(folder))
