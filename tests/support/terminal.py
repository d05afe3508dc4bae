"""A command on a terminal of its own, and what a person sees there."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable

import pyte

LINES, COLUMNS = 30, 90
MOST_S = 150.0
CTRL_C = b"\x03"


class Terminal:
    """`bulkembed ...` in the foreground of a terminal. `close` ends whatever still runs."""

    def __init__(self, *words: object, **environ: str) -> None:
        self.data = b""
        self._screen = pyte.Screen(COLUMNS, LINES)
        self._stream = pyte.ByteStream(self._screen)
        command = [sys.executable, "-m", "bulkembed", *map(str, words)]
        # As long as nothing is between fork and exec, the threads of the tests do not matter.
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, command, {**os.environ, "TERM": "xterm-256color", **environ})
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        # Else the kernel drops at Ctrl-C what was written and not read yet, such as half a panel.
        modes = termios.tcgetattr(self._fd)
        modes[3] |= termios.NOFLSH
        termios.tcsetattr(self._fd, termios.TCSANOW, modes)
        self._code: int | None = None

    @property
    def lines(self) -> list[str]:
        """What stands on the screen, without the empty lines."""
        return [line.rstrip() for line in self._screen.display if line.strip()]

    @property
    def cursor_is_shown(self) -> bool:
        """Whether the cursor can be seen."""
        return not self._screen.cursor.hidden

    def press(self, keys: bytes) -> None:
        """Types: Ctrl-C goes to all processes in the foreground."""
        os.write(self._fd, keys)

    def read_until(self, what: Callable[[], bool]) -> None:
        """Takes in what is written until something is so."""
        until = time.monotonic() + MOST_S
        while not what():
            assert time.monotonic() < until, "\n".join(self.lines)
            assert self._read(), "it ended before:\n" + "\n".join(self.lines)

    def code(self) -> int:
        """The exit code, once it has ended."""
        until = time.monotonic() + MOST_S
        while self._read():
            assert time.monotonic() < until, "\n".join(self.lines)
        self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code

    def close(self) -> None:
        """Ends the process if it still runs."""
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)

    def _read(self) -> bool:
        """Takes in what there is; False once the other end is closed."""
        if not select.select([self._fd], [], [], 0.1)[0]:
            return True
        try:
            data = os.read(self._fd, 1 << 16)
        except OSError:  # How Linux says that nobody has the other end open.
            return False
        self.data += data
        self._stream.feed(data)
        return bool(data)
