"""Another run that takes over a dataset while a run of the test still writes it."""

from __future__ import annotations

import json
from pathlib import Path

NAME = "another-run"


def gathered_by_another_run(output: Path) -> Path:
    """A file that the other run has, once it has taken over."""
    return output / f"_run/gather/rows-of-{NAME}"


def take_over(output: Path) -> None:
    """Give the dataset to the other run, which has begun to gather rows."""
    run_json, others = output / "_run/run.json", gathered_by_another_run(output)
    pinned = json.loads(run_json.read_bytes())
    taken = {"run_number": pinned["run_number"] + 1, "last_run_id": NAME}
    run_json.write_text(json.dumps(pinned | taken))
    others.parent.mkdir(exist_ok=True)
    others.touch()
