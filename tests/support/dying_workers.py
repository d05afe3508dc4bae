"""Worker processes that kill themselves at a chosen moment: what the kernel does out of memory."""

from __future__ import annotations

import os
from pathlib import Path

from support.killing import Step

FOLDER = Path(__file__).parents[1] / "kill/dying_worker"
"""Holds a `sitecustomize.py`, which Python imports in each process whose path has the folder."""
START = Step("start", "")
"""As soon as Python is there, before anything of ours or of Beam's is imported."""


def environ(
    step: Step,
    marks: Path,
    deaths: int = 1,
    number: int = 9,
    who: str = "bulkembed.pipeline.runners.worker",
) -> dict[str, str]:
    """The environment of a launcher of whose workers `deaths` die at a step, by a signal.

    Args:
        step: the moment.
        marks: an empty folder, where those that die leave their process ids.
        deaths: how many die.
        number: of the signal.
        who: the module that is run by those that get it.
    """
    return {
        "DYING_WHO": who,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(FOLDER), os.environ.get("PYTHONPATH")))),
        "DYING_WORKER": f"{step.event}\n{step.part}\n{step.number}\n{marks}\n{deaths}\n{number}",
    }
