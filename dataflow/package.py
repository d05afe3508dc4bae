"""Write the files from which a Dataflow flex template is built: `make dataflow-package`.

In `dist/dataflow/`: the sdist, requirements.txt (pins of the installed versions), launch.py, the
Dockerfile, and metadata.json, whose parameters are the flags of `bulkembed run`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from bulkembed.pipeline.cli.options import OPTIONS
from bulkembed.pipeline.runners.staging import pinned_requirements

HERE = Path(__file__).parent
LOCAL_FLAGS = ("--emulator", "--runner", "--config", "--api-key-file")
"""Flags that have no meaning without a local disk."""


def package(folder: Path) -> None:
    """Write all files of the template's image, and its metadata."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(folder)]
    subprocess.run(build, cwd=HERE.parent, check=True, timeout=120)
    beam = f"# apache-beam=={metadata.version('apache-beam')}"
    pins = [beam, *pinned_requirements(("media",))]  # One template serves jobs of every kind.
    (folder / "requirements.txt").write_text("".join(f"{pin}\n" for pin in pins))
    (folder / "metadata.json").write_text(json.dumps(template(), indent=2) + "\n")
    for name in ("Dockerfile", "launch.py"):
        shutil.copy(HERE / name, folder)


def template() -> dict[str, Any]:
    """Return the template's metadata.

    Source: cloud.google.com/dataflow/docs, "Configure Flex Templates", 2026-11.
    """
    shown = [option for option in OPTIONS if option.opts[0] not in LOCAL_FLAGS]
    return {
        "name": "bulkembed",
        "description": metadata.metadata("bulkembed")["Summary"],
        "parameters": [parameter(option) for option in shown],
    }


def parameter(option: click.Option) -> dict[str, Any]:
    """Return a flag as a parameter: its name has underscores, and a switch takes `true`."""
    return {
        "name": option.opts[0].removeprefix("--").replace("-", "_"),
        "label": option.opts[0],
        "helpText": (option.help or "") + (" Set to true." if option.is_flag else ""),
        "isOptional": not option.required,
    }


if __name__ == "__main__":
    package(HERE.parent / "dist/dataflow")
