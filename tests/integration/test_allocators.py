"""Freed memory goes back to the system."""

from __future__ import annotations

import platform

import pytest
from support.cli import python

PROGRAM = """
import sys
from bulkembed.transforms.units.allocators import return_large_buffers

def resident_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1000

if sys.argv[1] == "returned":
    return_large_buffers()
bytearray(30_000_000)  # From now on glibc keeps smaller ones in heaps.
before, small = resident_mb(), []
large = []
for size in [2_000_000] * 100:
    large.append(b"x" * size)
    small.append(b"y" * 100_000)
del large
print(round(resident_mb() - before))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_large_buffers_that_are_freed_leave_the_process() -> None:
    grown = {name: int(python("-c", PROGRAM, name).out) for name in ("returned", "kept")}
    assert grown["returned"] < 30
    assert grown["kept"] > 100, "glibc returns them by itself: allocators.py is not needed"
