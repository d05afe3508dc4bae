"""Imports that pyarrow does by itself, done before several threads need them."""

from __future__ import annotations

import pyarrow as pa


def import_pandas_first() -> None:
    """Have pyarrow import pandas, if that is installed, in a process that may use threads.

    pyarrow does so when it makes the first array of a list. If two threads do that at once, one of
    them gets a pandas that is not complete, and fails with an AttributeError.
    """
    pa.array([0])
