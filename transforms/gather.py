"""Elements of small bundles brought together into larger ones."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp


class Gather(beam.PTransform):
    """The same elements, up to `rows` of a window together, none of which waits longer than `s`.

    Windows and timestamps are kept.
    """

    def __init__(self, rows: int, longest_s: float) -> None:
        super().__init__()
        self._rows = rows
        self._longest_s = longest_s

    def expand(self, elements: beam.PCollection[Any]) -> beam.PCollection[Any]:
        """Through the state of the runner: what waits there outlives a worker."""
        kind: Any = elements.element_type
        return (
            elements
            | "Stamp" >> beam.Map(_stamp).with_output_types(tuple[bytes, tuple[int, kind]])
            | "Group" >> beam.GroupIntoBatches.WithShardedKey(self._rows, self._longest_s)
            | "Spread" >> beam.FlatMap(_spread).with_output_types(kind)
        )


def _stamp(element: Any, timestamp: Any = beam.DoFn.TimestampParam) -> tuple[bytes, Any]:
    return b"", (timestamp.micros, element)


def _spread(batch: tuple[Any, Any]) -> list[TimestampedValue]:
    return [TimestampedValue(element, Timestamp(micros=micros)) for micros, element in batch[1]]
