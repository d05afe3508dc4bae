"""The changes of a dataset since an earlier state."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from bulkembed.pipeline.changes.changed_vectors import ChangedVectors
from bulkembed.pipeline.changes.feed_chain import feeds_since
from bulkembed.pipeline.changes.net_changes import NetChanges
from bulkembed.pipeline.run.publish import published_state
from bulkembed.pipeline.run.summary import changes_line
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.messages import did_you_mean
from bulkembed.transforms.dataset import scratch
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.part_difference import ChangeCounts


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """The net difference between two states of a dataset, read batch by batch."""

    run_id: str
    """The run that completed the later state; give it to `--since` next time."""
    runs: int
    """The runs between the states that changed rows."""
    counts: ChangeCounts
    """The number of ids by change."""
    schema: pa.Schema
    _net: NetChanges
    _vectors: ChangedVectors | None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the changes.

        Raises:
            OutputError: a feed or a part cannot be read.
        """
        found = self._net.batches()
        for batch in found if self._vectors is None else self._vectors.add_to(found):
            yield batch.select(self.schema.names)

    def summary_lines(self, output: str) -> Iterable[tuple[str, str]]:
        """Yield lines that describe the changes, each as a label and a text."""
        yield "dataset", output
        yield "state", f"run {self.run_id}"
        yield "changes", changes_line(self.counts)


@contextlib.contextmanager
def open_changes(
    output: str,
    since: str | None = None,
    *,
    with_vectors: bool = False,
    columns: Sequence[str] | None = None,
) -> Iterator[Changes]:
    """Open the changes of the dataset at a path or URI, also while a run is writing it.

    Args:
        output: the dataset.
        since: the id of a run or a time; see `feed_chain.feeds_since`.
        with_vectors: whether to add the vectors and all other columns.
        columns: only these, in this order, also those that only `with_vectors` has; None for all.

    Raises:
        ConfigError: there is no dataset, no complete state or no such column, or the changes are
            not known.
        OutputError: a change feed is missing or damaged.
    """
    manifest = published_state(output)
    feeds = feeds_since(output, manifest, since)
    dataset = Dataset.open(output)
    with scratch.folder() as folder:
        net = NetChanges(dataset, manifest, feeds, folder)
        wanted = list(columns or net.schema.names)
        wants_more = with_vectors or not set(wanted) <= set(net.schema.names)
        vectors = ChangedVectors(dataset, manifest, net.schema) if wants_more else None
        schema = net.schema if vectors is None else vectors.schema
        if columns is not None:
            schema = pa.schema([_field(schema, name) for name in dict.fromkeys(wanted)])
        yield Changes(manifest.run_id, len(feeds), net.counts, schema, net, vectors)


def _field(schema: pa.Schema, name: str) -> pa.Field:
    if name in schema.names:
        return schema.field(name)
    near = did_you_mean(name, schema.names)
    has = ", ".join(map(repr, schema.names))
    raise ConfigError(f"--columns: there is no column {name!r}. {near} It has {has}.")
