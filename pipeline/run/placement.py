"""Where the workers of a run are. Beam is imported only if the request has flags for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulkembed.pipeline.logs import log
from bulkembed.pipeline.run.request import RunRequest

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions


def runs_on_this_machine(request: RunRequest) -> bool:
    """Return whether all workers are processes of this machine, with any runner."""
    if not _has_beam_flags(request):
        return True
    from bulkembed.pipeline.runners import beam_options

    return beam_options.on_this_machine(
        beam_options.beam_options(request.runner, request.beam_args)
    )


def quota_shares(request: RunRequest) -> int | None:
    """Return into how many parts the quota is split; None if that is not known.

    On this machine it is one part, because all processes count in the same file.

    Raises:
        ConfigError: Beam does not know a flag, or Dataflow cannot run the job.
    """
    if not _has_beam_flags(request):
        return 1
    from bulkembed.pipeline.runners import beam_options, dataflow_job

    options = beam_options.beam_options(request.runner, request.beam_args)
    dataflow_job.check(options, (*request.input.patterns, request.output.uri))
    on_this_machine = beam_options.on_this_machine(options)
    shares = 1 if on_this_machine else beam_options.cluster_workers(options)
    calls = request.calls
    if shares is None and calls.limits.share == 1 and calls.rate_service is None:
        log.warning(
            "the Beam flags do not say how many workers share the quota, so each worker uses all "
            "of it. Set --quota-share 1/WORKERS, or start a rate limit service and name it with "
            "--rate-limit-service."
        )
    return shares


def cluster_options(request: RunRequest) -> PipelineOptions | None:
    """Return new options of Beam for a runner other than its local one; else None."""
    if not _has_beam_flags(request):
        return None
    from bulkembed.pipeline.runners import beam_options

    options = beam_options.beam_options(request.runner, request.beam_args)
    return None if beam_options.uses_local_runner(options) else options


def _has_beam_flags(request: RunRequest) -> bool:
    return bool(request.runner or request.beam_args)
