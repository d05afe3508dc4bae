"""Gather known vectors: read row groups of the sources once, and write their rows unit by unit."""

from __future__ import annotations

import collections
import concurrent.futures
from collections.abc import Iterable, Iterator

from bulkembed.schemas.units import GatherSlice
from bulkembed.transforms.dataset.gathered_rows import GatherWriter
from bulkembed.transforms.dataset.wanted_rows import (
    WantedBlock,
    WantedGroup,
    WantedRows,
    read_blocks,
)
from bulkembed.transforms.units.engine import Engine
from bulkembed.transforms.units.slices import SliceTasks

READ_AHEAD = 2
"""Row groups in memory at a time, each up to about 64 MB."""


def gather_rows(engine: Engine, gather: GatherSlice) -> Iterator[int]:
    """Gather the rows of a list; yield how many rows came from each row group.

    Rows of a part that cannot be read are left out: their texts are sent. It stops cleanly, as
    `embed_slice` does.

    Raises:
        Exception: an unknown error.
    """
    tasks: SliceTasks[int] = SliceTasks(engine)
    try:
        if not tasks.must_stop():
            wanted = WantedRows.read(engine.dataset, engine.job.run_id, gather.name)
            writer = GatherWriter(engine.dataset, engine.job, gather.name)
            for blocks in _read_ahead(wanted.groups()):
                if tasks.must_stop():
                    break
                for block in blocks:
                    writer.add(block.units, block.labels, block.vectors)
                yield sum(len(block.units) for block in blocks)
            writer.flush()
    except Exception as error:
        tasks.stop_run(error)
    yield from tasks.finish()


def _read_ahead(groups: Iterable[WantedGroup]) -> Iterator[list[WantedBlock]]:
    """Yield the wanted rows of each row group, in order, while the next ones are read."""
    waiting: collections.deque[concurrent.futures.Future[list[WantedBlock]]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(READ_AHEAD) as pool:
        for group in groups:
            waiting.append(pool.submit(_read, group))
            if len(waiting) == READ_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _read(group: WantedGroup) -> list[WantedBlock]:
    return list(read_blocks(group))
