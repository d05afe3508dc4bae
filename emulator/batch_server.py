"""Files and batch jobs of one server, with what they cost and leave behind."""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import Any

from starlette.routing import Route

from bulkembed.emulator.batch_calls import BatchCalls
from bulkembed.emulator.batch_jobs import Job, JobStore
from bulkembed.emulator.batch_results import inline_results, result_lines, write_results
from bulkembed.emulator.batch_routes import BatchRoutes
from bulkembed.emulator.buckets import Buckets
from bulkembed.emulator.calls import State
from bulkembed.emulator.canned_results import CannedResults
from bulkembed.emulator.catalog import Catalog
from bulkembed.emulator.file_routes import FileRoutes
from bulkembed.emulator.files import DiskBytes, FileStore
from bulkembed.emulator.gateway import Gateway
from bulkembed.emulator.job_control import JobControl
from bulkembed.emulator.job_making import JobMaker
from bulkembed.emulator.media_uris import UriReader
from bulkembed.emulator.vertex_batch_routes import VertexBatchRoutes
from bulkembed.emulator.vertex_batches import write_to_bucket

_RESULTS_S = 30.0
"""How long `/stats` waits for results that are late: a job bills once they are written."""


class BatchServer:
    """The routes and counts of files and batch jobs."""

    def __init__(self, state: State, gateway: Gateway, catalog: Catalog) -> None:
        self._state, self._settings = state, state.settings
        batch, clock = self._settings.batch, state.clock
        self._calls = BatchCalls(state, gateway)
        self.files = FileStore(batch, clock)
        self.jobs = JobStore(batch, clock, self._write, self._publish, self._bill)
        self._file_routes = FileRoutes(self._settings, gateway, self._calls, self.files)
        self._buckets = Buckets(batch.buckets)
        developer_gs = self._settings.media.developer_gs
        self.uris = UriReader(self._buckets, self.files, developer_gs=developer_gs)
        maker = JobMaker(state, self.jobs, self.uris)
        self._batch_routes = BatchRoutes(
            state, gateway, self._calls, catalog, self.files, self.jobs, maker
        )
        self._vertex_routes = VertexBatchRoutes(
            state, gateway, self._calls, catalog, self.files, self.jobs, maker, self._buckets
        )
        self._control = JobControl(gateway, self.jobs)
        self._texts = self._tokens = 0

    def routes(self) -> list[Route]:
        """Return the routes."""
        parts = (self._control, self._file_routes, self._batch_routes, self._vertex_routes)
        return [route for part in parts for route in part.routes()]

    def reset(self) -> None:
        """Forget files, jobs and counts, and restart scripts and random sequences."""
        self._calls.reset()
        self.jobs.reset()
        self.files.close()
        self._texts = self._tokens = 0

    def close(self) -> None:
        """Delete all files."""
        self.jobs.close()
        self.files.close()

    def as_json(self) -> dict[str, Any]:
        """Return the part of `/stats` about files and jobs."""
        self.jobs.settle_for(_RESULTS_S)
        jobs = self.jobs.all_jobs()
        left = [job for job in jobs if not job.deleted]
        states = collections.Counter(str(self.jobs.shown_state(job)) for job in jobs)
        files = list(self.files.files().values())
        return {
            "texts": self._texts,
            "tokens": self._tokens,
            "jobs_created": len(jobs),
            "jobs_by_state": dict(sorted(states.items())),
            "jobs_left": len(left),
            "jobs_open": sum(job.state is None for job in jobs),
            "enqueued_tokens": self.jobs.enqueued_tokens(),
            "files_left": len(files),
            "uploads_open": sum(one.file is None for one in self.files.uploads.values()),
            "display_names_twice": _repeated(job.display_name for job in jobs),
            "calls": {
                str(kind): dict(sorted(answers.items()))
                for kind, answers in sorted(self._calls.answers.items())
            },
        }

    def _write(self, job: Job, count: int) -> Any:
        """Make the results of a job: their bytes, a folder's URI, or an inline job's values."""
        if job.place:
            return write_to_bucket(job, count, self.files, self._buckets)
        if job.inline:
            return inline_results(result_lines(job.target, job.table, job.plan, count))
        if self._settings.canned:
            return CannedResults(job.target, job.table)
        path = self.files.new_path()
        write_results(job.target, job.table, job.plan, count, path)
        return DiskBytes(path)

    def _publish(self, job: Job, results: Any) -> Any:
        """Return the output of a job that is over: its file, or its values."""
        if not isinstance(results, CannedResults):
            job.table.path.unlink(missing_ok=True)
        if job.inline or job.place:
            return results
        return self.files.add(
            f"batch-{job.id}", results, "application/jsonl", job.display_name,
            self._settings.batch.result_expire_s, generated=True,
        )  # fmt: skip

    def _bill(self, job: Job, rows: list[int]) -> None:
        keys, by_modality = job.table.keys, job.table.tokens_by_modality(rows)
        tokens = sum(by_modality.values())
        self._texts += len(rows)
        self._tokens += tokens
        self._state.stats.paid(
            (keys[row] for row in rows), len(rows), tokens, job.ended, by_modality
        )


def _repeated(names: Iterable[str | None]) -> int:
    """Return how many jobs have the display name of an earlier one."""
    counts = collections.Counter(name for name in names if name is not None)
    return sum(count - 1 for count in counts.values())
