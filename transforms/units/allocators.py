"""Allocators that give freed memory back to the system."""

from __future__ import annotations

import contextlib
import ctypes
import os

import pyarrow as pa

POOL_VARIABLE = "ARROW_DEFAULT_MEMORY_POOL"
"""Arrow's own: the user's choice of an allocator."""
MMAP_VARIABLE = "MALLOC_MMAP_THRESHOLD_"
"""The same of glibc, for the size from which buffers are mapped."""
_LARGE_BYTES = 1 << 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of `mallopt`, in glibc's malloc.h."""


def use_system_pool() -> None:
    """Let Arrow use the allocator of the system, unless the user has chosen one.

    Arrow's own keeps up to 30 MB for each thread that has encoded or decoded vectors. Pages of
    Parquet files still come from it: that choice is made when Arrow is imported.
    """
    if POOL_VARIABLE not in os.environ:
        pa.set_memory_pool(pa.system_memory_pool())


def return_large_buffers() -> None:
    """Let this process give each buffer of 1 MB or more back as soon as it is freed.

    Without this, glibc raises that size to that of the largest buffer so far, up to 32 MB. Media,
    the bodies of its requests and the vectors of batch jobs then share heaps with small objects,
    which keep half of the heaps empty. Other C libraries are left alone.
    """
    use_system_pool()
    if MMAP_VARIABLE in os.environ:
        return
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)
