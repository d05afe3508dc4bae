"""The emulator's own `/jobs`, by which tests look at jobs and change them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bulkembed.emulator import wire
from bulkembed.emulator.api_errors import ApiError, invalid
from bulkembed.emulator.batch_jobs import Job, JobStore
from bulkembed.emulator.gateway import Gateway, parse
from bulkembed.schemas.errors import ConfigError

_MAX_BYTES = 1 << 20


class JobControl:
    """The handler of `/jobs`."""

    def __init__(self, gateway: Gateway, jobs: JobStore) -> None:
        self._gateway, self._jobs = gateway, jobs

    def routes(self) -> list[Route]:
        """Return the route."""
        return [Route("/jobs", self._gateway.guard(self.jobs), methods=["GET", "POST"])]

    async def jobs(self, request: Request) -> Response:
        """Return all jobs, the oldest first; POST changes one, or the tokens of other users."""
        if request.method == "POST":
            body = parse(await self._gateway.read(request, _MAX_BYTES))
            names = frozenset({"job", "outcome", "enqueuedByOthers"})
            self._change(wire.Message(body, "", names))
        jobs = [self._describe(job) for job in self._jobs.all_jobs()]
        return self._gateway.json(
            request, {"jobs": jobs, "enqueued_by_others": self._jobs.enqueued_by_others}
        )

    def _change(self, message: wire.Message) -> None:
        tokens, name = message.integer("enqueuedByOthers"), message.text("job")
        if tokens is not None:
            self._jobs.enqueued_by_others = tokens
        if name is None:
            return
        open_jobs = [job for job in self._jobs.all_jobs() if job.state is None]
        found = [job for job in open_jobs if name in (job.id, job.name, job.display_name)]
        if not found:
            raise ApiError(404, f'No job "{name}" is open.')
        try:
            for job in found:
                self._jobs.change(job, message.text("outcome") or "")
        except ConfigError as error:
            raise invalid(str(error)) from error

    def _describe(self, job: Job) -> dict[str, object]:
        return {
            "name": job.name,
            "display_name": job.display_name,
            "state": self._jobs.shown_state(job),
            "outcome": job.outcome,
            "rows": job.rows,
            "tokens": job.tokens,
            "deleted": job.deleted,
        }
