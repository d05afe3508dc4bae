"""A parent that has imported all that a run needs, and forks one for each command that it is told.

A start costs seconds of CPU, nearly all of it imports; a fork of a parent with one thread is like
a new process otherwise. Requests come as lines of JSON on standard input, answers go as lines of
JSON to standard output: {"pid": ...} when a process has begun, and {"pid": ..., "code": ...} when
it has ended.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import sys
import tempfile
import time
from typing import Any

MODULES = (
    "apache_beam", "google.genai", "bulkembed.pipeline.cli.run_command",
    "bulkembed.pipeline.cli.dataset_commands",
    "bulkembed.pipeline.runners.graph", "bulkembed.pipeline.run.run",
    "bulkembed.pipeline.verify.verify",
    "bulkembed.transforms.clients.gemini",
    "bulkembed.transforms.units.engine", "bulkembed.transforms.units.slices",
    "bulkembed.transforms.units.prepare",
    "bulkembed.pipeline.cli.show", "anyio._backends._asyncio",
)  # fmt: skip
LOOK_EVERY_S = 0.02


def _import_all() -> None:
    for name in MODULES:
        importlib.import_module(name)


def become(request: dict[str, Any]) -> None:
    """Makes this process, just forked, look as if it had been started with the command."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, default)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for target, (path, how) in enumerate(
        ((os.devnull, os.O_RDONLY), (request["out"], flags), (request["err"], flags))
    ):
        file = os.open(path, how, 0o644)
        os.dup2(file, target)
        os.close(file)
    os.environ.update(request["environ"])
    tempfile.tempdir = None
    sys.argv = ["bulkembed", *request["args"]]
    if request["event"]:
        from kill.killer import die_at

        die_at(*request["event"])


def reap() -> None:
    """Tells of the processes that have ended."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            tell(pid=ended[0], code=os.waitstatus_to_exitcode(ended[1]))


def tell(**answer: int) -> None:
    """One line to whoever started this."""
    os.write(1, json.dumps(answer).encode() + b"\n")


def serve() -> dict[str, Any] | None:
    """Gives, in each forked process, the request that it is for; in the parent None at the end."""
    pending = b""
    while True:
        reap()
        if not select.select([0], [], [], LOOK_EVERY_S)[0]:
            continue
        data = os.read(0, 1 << 16)
        if not data:
            return None
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            request: dict[str, Any] = json.loads(line)
            pid = os.fork()
            if pid == 0:
                return request
            tell(pid=pid, started=int(time.time()))


if __name__ == "__main__":
    _import_all()
    gc.collect()
    gc.freeze()  # So that a collection in a fork copies no pages.
    tell(ready=1)
    found = serve()
    if found is not None:
        become(found)
        from bulkembed.pipeline.cli.main import main

        main(found["args"])
