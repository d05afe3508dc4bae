"""Lists that the launcher of a run writes to `_run/gather/` for its workers, or they for it.

There may be too much in them for an element of Beam. A CRC-32 comes before the content.
"""

from __future__ import annotations

from collections.abc import Iterable

from isal import isal_zlib

from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.stop import RERUN
from bulkembed.transforms.dataset.atomic_files import read_bytes
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import GATHER

_SUM_BYTES = 4


def write_list(dataset: Dataset, run_id: str, name: str, content: bytes) -> None:
    """Write a list of a run.

    Raises:
        OutputError: the file cannot be written.
    """
    dataset.write(f"{GATHER}/{run_id}-{name}", _checksum(content) + content)


def read_list(dataset: Dataset, run_id: str, name: str) -> memoryview:
    """Return the content of a list of a run.

    Raises:
        OutputError: the file is missing, damaged, or cannot be read.
    """
    path = dataset.path(GATHER, f"{run_id}-{name}")
    found = read_bytes(dataset.filesystem, path)
    data = memoryview(found or b"")
    content = data[_SUM_BYTES:]
    if data[:_SUM_BYTES] != _checksum(content):
        message = f"{path} is missing or damaged. {RERUN}"
        raise OutputError(message, missing=found is None, damaged=found is not None)
    return content


def delete_lists(dataset: Dataset, run_id: str, names: Iterable[str]) -> None:
    """Delete lists of a run; some may not exist."""
    dataset.delete(f"{GATHER}/{run_id}-{name}" for name in names)


def _checksum(content: bytes | memoryview) -> bytes:
    return isal_zlib.crc32(content).to_bytes(_SUM_BYTES, "little")
