"""Elements of small bundles brought together into larger ones."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from schemas.errors import ConfigError

LOSES_ROWS = "PrismRunner"
"""On it Beam's own GroupIntoBatches loses rows, with and without a limit of time.

Source: run with Beam 2.77.0, 2026-11: 700 rows in three windows, up to 500 of them missing.
"""


class Gather(beam.PTransform):
    """The same elements, up to `rows` of a window together, none of which waits longer than `s`.

    Windows and timestamps are kept.
    """

    def __init__(self, rows: int, longest_s: float) -> None:
        super().__init__()
        self._rows = rows
        self._longest_s = longest_s

    def expand(self, elements: beam.PCollection[Any]) -> beam.PCollection[Any]:
        """Keep elements in the runner's state, so that what waits there outlives a worker.

        Raises:
            ConfigError: the runner loses elements of such a group.
        """
        if type(elements.pipeline.runner).__name__ == LOSES_ROWS:
            raise ConfigError(
                "gather_s cannot be used with PrismRunner: its GroupIntoBatches (Beam 2.77) loses "
                "rows. Leave gather_s out, or choose another runner"
            )
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
