"""A worker process of `--workers`: Beam's harness with bulkembed's log.

    python -m bulkembed.pipeline.runners.worker LEVEL plain|json FOLDER LAUNCHER

Beam's own command logs each of its steps to standard error, and bulkembed's lines twice.
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
"""Linux's flag of a process that is exiting."""


class OncePerRun(logging.Filter):
    """A filter that passes messages that no worker of the run has logged before.

    The extra `once` of a record replaces its message for this test. A record with the extra
    `clears` allows what is named there to be logged again: so a second outage is reported after
    the first one has ended.

    Args:
        folder: where the workers leave a marker file for each message.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log the record; it is logged if no marker can be written."""
        try:
            self._marker(getattr(record, "once", record.getMessage())).touch(exist_ok=False)
        except FileExistsError:
            return False
        except OSError:
            return True
        clears = getattr(record, "clears", None)
        if clears is not None:
            with contextlib.suppress(OSError):
                self._marker(clears).unlink(missing_ok=True)
        return True

    def _marker(self, message: str) -> Path:
        digest = hashlib.blake2b(message.encode(errors="replace"), digest_size=16).hexdigest()
        return self._folder / digest


def command(level: int, folder: str) -> list[str]:
    """Return the command that starts a worker; `-P` ignores modules in the current folder."""
    form = "json" if is_json() else "plain"
    arguments = (logging.getLevelName(level), form, folder, str(os.getpid()))
    return [sys.executable, "-P", "-m", "bulkembed.pipeline.runners.worker", *arguments]


class StandardError(io.TextIOBase):
    """Standard error for Beam's harness that hides its errors about broken streams.

    The streams break when the launcher dies. The worker then commits finished rows and ends.

    Args:
        stream: where to write while the launcher is running.
        launcher: its process id.
    """

    def __init__(self, stream: TextIO, launcher: int) -> None:
        self._stream = stream
        self._launcher = launcher

    def write(self, text: str) -> int:
        """Write the text if the launcher is running."""
        return len(text) if _is_ending(self._launcher) else self._stream.write(text)

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()

    def fileno(self) -> int:
        """Return the stream's file descriptor."""
        return self._stream.fileno()


def _is_ending(launcher: int) -> bool:
    """Return whether the launcher is exiting or has exited; its streams break before that.

    Source: proc(5), /proc/PID/stat, the fields after the name.
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
    sources.write_numbers(Path(folder))


if __name__ == "__main__":
    main()
