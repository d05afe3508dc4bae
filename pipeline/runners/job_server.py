"""The job server that Beam starts for one job: of Prism, Flink or Spark."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    JobServerOptions,
    PipelineOptions,
    PortableOptions,
    SparkRunnerOptions,
    StandardOptions,
)
from apache_beam.runners.portability.flink_runner import FlinkJarJobServer, FlinkRunner
from apache_beam.runners.portability.job_server import SubprocessJobServer
from apache_beam.runners.portability.prism_runner import PrismJobServer
from apache_beam.runners.portability.spark_runner import SparkJarJobServer
from apache_beam.utils.subprocess_server import pick_port

from bulkembed.schemas.errors import ConfigError

_SERVERS: dict[str, Callable[[PipelineOptions], SubprocessJobServer]] = {
    "PrismRunner": PrismJobServer,
    "FlinkRunner": FlinkJarJobServer,
    "SparkRunner": SparkJarJobServer,
}


@contextlib.contextmanager
def running(options: PipelineOptions) -> Iterator[None]:
    """Run the job server that the runner would start, and put its address into the options.

    Beam's runners start it with a handler for SIGINT, which only the main thread may set. Here the
    main thread handles signals itself, and the job runs in another thread.

    Raises:
        ConfigError: the server cannot be downloaded or does not start.
    """
    runner = str(options.view_as(StandardOptions).runner)
    server_class = _SERVERS.get(runner)
    if server_class is None or not _starts_server(options):
        yield
        return
    flink = options.view_as(FlinkRunnerOptions)
    flink.flink_master = FlinkRunner.add_http_scheme(flink.flink_master)
    (port,) = pick_port(options.view_as(JobServerOptions).job_port or None)
    options.view_as(JobServerOptions).job_port = port
    server = server_class(options)
    try:
        server.start()
    except (RuntimeError, ValueError, OSError) as error:
        raise ConfigError(f"--runner {runner}: the job server does not start: {error}") from error
    try:
        options.view_as(PortableOptions).job_endpoint = f"localhost:{port}"
        yield
    finally:
        server.stop()


def _starts_server(options: PipelineOptions) -> bool:
    return not (
        options.view_as(PortableOptions).job_endpoint
        or options.view_as(FlinkRunnerOptions).flink_submit_uber_jar
        or options.view_as(SparkRunnerOptions).spark_submit_uber_jar
    )
