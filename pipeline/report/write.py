"""A report, written where its dataset is."""

from __future__ import annotations

import pyarrow as pa

from pipeline.report.facts import read_facts
from schemas.errors import ConfigError
from transforms.storage.dataset import REPORT, Dataset

EXTRA = "bulkembed[report]"


def write_report(output: str) -> str:
    """Writes the page of the dataset at a path or URI, over an older one; gives its place.

    Raises:
        ConfigError: there is no dataset, or the libraries that draw are not installed.
        OutputError: the dataset cannot be read, or the page not be written.
    """
    # Arrow keeps what it has freed: here what a run has read, and then what is read here.
    pool = pa.default_memory_pool()
    pool.release_unused()
    facts = read_facts(output)
    pool.release_unused()
    try:
        from pipeline.report.page import render

        page = render(facts)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"a report needs {error.name}, which is not installed: pip install '{EXTRA}'"
        ) from None
    dataset = Dataset.open(output)
    dataset.write(REPORT, page.encode())
    dataset.move_old_report()
    return f"{output.rstrip('/')}/{REPORT}"
