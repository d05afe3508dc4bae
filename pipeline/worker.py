"""A worker process of `--workers`: Beam's harness, with our log and without Beam's.

    python -m pipeline.worker LEVEL plain|json FOLDER

Beam's own command logs each of its steps to standard error, and ours a second time.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sys
from pathlib import Path

from pipeline.logs import is_json, log, set_log
from pipeline.progress import worker_files


class OnceARun(logging.Filter):
    """Lets a sentence through that no worker of the run has logged before.

    A record with the extra `once` counts as that, whatever its words; one with `clears` lets what
    is named there be logged again.  So a second outage is reported after the first one has ended.

    Args:
        folder: where the workers leave a mark for each sentence.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to show it; where no mark can be left, it is shown."""
        try:
            self._mark(getattr(record, "once", record.getMessage())).touch(exist_ok=False)
        except FileExistsError:
            return False
        except OSError:
            return True
        clears = getattr(record, "clears", None)
        if clears is not None:
            with contextlib.suppress(OSError):
                self._mark(clears).unlink(missing_ok=True)
        return True

    def _mark(self, said: str) -> Path:
        digest = hashlib.blake2b(said.encode(errors="replace"), digest_size=16).hexdigest()
        return self._folder / digest


def command(level: int, folder: str) -> list[str]:
    """Return the words that start a worker; `-P`: a module in the user's folder is not ours."""
    form = "json" if is_json() else "plain"
    words = ("-P", "-m", "pipeline.worker", logging.getLevelName(level), form, folder)
    return [sys.executable, *words]


def main() -> None:
    """Works for the runner that Beam's environment variables name, until it has no more work."""
    level, form, folder = sys.argv[1:]
    set_log(level.lower(), as_json=form == "json")
    log.addFilter(OnceARun(Path(folder)))
    worker_files.keep_writing(Path(folder))
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    main()
