"""What a batch job needs of a service: files, jobs and results."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from bulkembed.schemas.embedding import EmbeddingConfig, ServiceConfig
from bulkembed.transforms.clients.remote_jobs import RemoteJob
from bulkembed.transforms.clients.retry_policy import RetryPolicy


class BatchService(Protocol):
    """Batch jobs of one model at one service. Threads may share it; it cannot be pickled.

    Every method raises a CallError, see schemas/errors.py. All calls but the creation of a job are
    retried, and transfers are resumed.
    """

    def upload(self, path: Path, name: str) -> str:
        """Upload a job file; return its name at the service.

        If the service has the same file under this name already, nothing is sent.

        Args:
            path: the job file.
            name: at most 40 lowercase letters, digits and dashes, and different for each job file.
        """
        ...

    def file_named(self, name: str) -> str:
        """Return the name at the service of the file that `upload` uploads under a name."""
        ...

    def create(self, file: str, display_name: str) -> RemoteJob:
        """Create a job; the call is sent once.

        Args:
            file: what `upload` returned.
            display_name: by which `find` finds the job.

        Raises:
            Unavailable, Intercepted, BadAnswer: the job may have been created all the same.
            QuotaExceeded: the service takes no further job at the moment.
            CallRejected: with the code MISSING_FILE if the file does not exist any more.
        """
        ...

    def find(self, display_name: str, not_before: float) -> RemoteJob | None:
        """Return the job with a display name, or None if there is none.

        Args:
            display_name: the job's.
            not_before: the job was not created before this time, in epoch seconds.
        """
        ...

    def get(self, name: str) -> RemoteJob | None:
        """Return a job by the service's name, or None if it does not exist any more."""
        ...

    def cancel(self, name: str) -> None:
        """Cancel a job. It may be over already, or may not exist."""
        ...

    def download(self, job: RemoteJob, path: Path) -> None:
        """Download the results of a job to a file, which is there only when it is complete.

        Raises:
            CallRejected: with the code MISSING_FILE if the results do not exist any more.
            OutputError: the file cannot be written.
        """
        ...

    def delete_file(self, file: str) -> None:
        """Delete a job file, or one of the `results` of a job. It may not exist.

        A file that the service does not let clients delete stays, as results of the Developer API.
        """
        ...

    def delete_job(self, name: str) -> None:
        """Delete a job. It may not exist.

        One that the service does not let clients delete stays, as one of Vertex AI that is not over
        yet.
        """
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


def open_batch_service(
    service: ServiceConfig,
    embedding: EmbeddingConfig,
    key: str | None,
    bucket: str | None,
    retry: RetryPolicy,
) -> BatchService:
    """Return the batch jobs of a service that `BatchConfig.check_service` accepts; sends nothing.

    Args:
        service: where to call, and how.
        embedding: names the model.
        key: the API key; None for application-default credentials.
        bucket: on Vertex AI, the gs:// folder for job files and results.
        retry: how calls are repeated.

    Raises:
        ConfigError: the bucket is that of another store.
        JobRejected: the environment names certificates that cannot be used.
    """
    # google-genai is imported when it is needed.
    if not service.vertexai:
        from bulkembed.transforms.clients.batch_developer import DeveloperBatches

        return DeveloperBatches(service, embedding, key, retry)
    from bulkembed.transforms.clients.batch_vertex import VertexBatches

    assert bucket is not None, "BatchConfig.check_service"
    return VertexBatches(service, embedding, key, bucket, retry)
