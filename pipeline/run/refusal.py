"""`_run/refusal.json`: why the last run of a dataset refused to start, for `bulkembed status`."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
from collections.abc import Iterator

from bulkembed.pipeline.logs import log
from bulkembed.schemas.errors import ConfigError, OutputError, TooManyDeletes
from bulkembed.schemas.serialization import Count, from_plain, to_plain
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import REFUSAL


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """Why a run ended before it sent or changed anything, and what to do."""

    run_id: str
    at: str
    """When, in UTC, as `2026-11-27T03:00:12+00:00`."""
    exit_code: Count
    message: str

    @classmethod
    def of(cls, run_id: str, error: ConfigError | TooManyDeletes) -> Refusal:
        """Return the refusal of a run by its error, now."""
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        return cls(run_id, now, int(error.exit_code), error.message)

    def line(self) -> str:
        """Return the exit code and the message."""
        return f"code {self.exit_code}: {self.message}"


@contextlib.contextmanager
def noting_refusals(dataset: Dataset, run_id: str, *, exists: bool) -> Iterator[None]:
    """Note an error of the checks inside, or delete an earlier note once they have passed.

    Args:
        dataset: the output; this process has its lock.
        run_id: the run that checks.
        exists: whether the dataset has rows; if not, nothing is noted.
    """
    try:
        yield
    except (ConfigError, TooManyDeletes) as error:
        if exists:
            try:
                dataset.write_json(REFUSAL, to_plain(Refusal.of(run_id, error)))
            except OutputError as problem:
                log.warning("`bulkembed status` will not show this error: %s", problem.message)
        raise
    if exists:
        dataset.delete([REFUSAL])


def read_refusal(dataset: Dataset) -> Refusal | None:
    """Return why the last run refused to start; None if it did not, or if the note is damaged."""
    try:
        content = dataset.read_json(REFUSAL)
        return None if content is None else from_plain(content, Refusal)
    except OutputError as error:
        if not error.damaged:
            raise
    except ValueError:
        pass
    return None
