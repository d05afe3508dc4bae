"""A worker process of `--workers`: Beam's harness, with our log and without Beam's.

    python -m bulkembed.pipeline.runners.worker LEVEL plain|json FOLDER LAUNCHER

Beam's own command logs each of its steps to standard error, and ours a second time.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import sys
from pathlib import Path
from typing import TextIO

from bulkembed.pipeline import streams
from bulkembed.pipeline.logs import is_json, log, set_log
from bulkembed.pipeline.progress import sources

PF_EXITING = 4
"""Linux's flag of a process that ends."""


class OncePerRun(logging.Filter):
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
    words = (logging.getLevelName(level), form, folder, str(os.getpid()))
    return [sys.executable, "-P", "-m", "bulkembed.pipeline.runners.worker", *words]


class StandardError(io.TextIOBase):
    """Standard error for Beam's harness: what it says of streams that broke is not shown.

    They break when the launcher dies.  The worker commits what is finished, and ends.

    Args:
        stream: where to write to as long as the launcher is there.
        launcher: its process id.
    """

    def __init__(self, stream: TextIO, launcher: int) -> None:
        self._stream = stream
        self._launcher = launcher

    def write(self, text: str) -> int:
        """Write the text, if the launcher is there."""
        return len(text) if _is_ending(self._launcher) else self._stream.write(text)

    def flush(self) -> None:
        """Write what is left."""
        self._stream.flush()

    def fileno(self) -> int:
        """The number of the stream."""
        return self._stream.fileno()


def _is_ending(launcher: int) -> bool:
    """Whether the launcher ends or has ended: its streams break before it is gone.

    Source: proc(5), /proc/PID/stat, the fields behind the name.
    """
    try:
        fields = Path(f"/proc/{launcher}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return os.getppid() != launcher
    return fields[0] in ("Z", "X") or bool(int(fields[6]) & PF_EXITING)


def main() -> None:
    """Work for the runner that Beam's environment variables name, until it has no more work."""
    streams.open_all()
    level, form, folder, launcher = sys.argv[1:]
    set_log(level.lower(), as_json=form == "json")
    log.addFilter(OncePerRun(Path(folder)))
    sources.start_writing(Path(folder))
    sys.stderr = StandardError(sys.stderr, int(launcher))
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    main()
