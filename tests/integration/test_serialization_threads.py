"""Threads that read the first records of a process at the same moment do not crash it."""

from __future__ import annotations

import sys

from support.cli import process

MANY_THREADS = """
import dataclasses, sys, threading
from bulkembed.schemas.serialization import from_plain

sys.setswitchinterval(1e-6)
names = [f"field_{number}" for number in range(8)]
content = dict.fromkeys(names, dict.fromkeys(names, 1))
for _ in range(60):
    inner = [dataclasses.make_dataclass("Inner", [(name, int) for name in names]) for name in names]
    kind = dataclasses.make_dataclass("Kind", zip(names, inner))
    start = threading.Barrier(8)

    def convert():
        start.wait()
        assert from_plain(content, kind).field_7.field_7 == 1

    threads = [threading.Thread(target=convert) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print("alive")
"""


def test_threads_may_convert_a_class_for_the_first_time_at_once() -> None:
    ended = process(sys.executable, "-X", "faulthandler", "-c", MANY_THREADS)
    assert (ended.code, ended.out, ended.err) == (0, "alive\n", "")
