"""Batch jobs of Vertex AI: batchPredictionJobs, whose files are in a bucket."""

from __future__ import annotations

import re
from pathlib import Path

from google.genai import types

from bulkembed.schemas.embedding import EmbeddingConfig, ServiceConfig
from bulkembed.schemas.errors import CallRejected
from bulkembed.transforms.clients.bucket_files import BucketFiles
from bulkembed.transforms.clients.job_calls import JobCalls
from bulkembed.transforms.clients.remote_jobs import MISSING_FILE, RemoteJob, read_prediction_job
from bulkembed.transforms.clients.retry_policy import RetryPolicy

REQUESTS = "requests.jsonl"
RESULTS = "results"


class VertexBatches(JobCalls):
    """The batch jobs of a project at a location; see `BatchService` and `JobCalls`.

    The files of a job are in a folder of their own: FOLDER/NAME/requests.jsonl, and its results
    below FOLDER/NAME/results/. A bucket that is none raises ConfigError.

    Source: docs.cloud.google.com, "Batch prediction for embeddings", 2026-09, and google-genai 3.6.
    """

    name_form = re.compile(r"projects/[^/]+/locations/[^/]+/batchPredictionJobs/[^/]+")
    list_field = "batchPredictionJobs"
    read_job = staticmethod(read_prediction_job)

    def __init__(
        self,
        service: ServiceConfig,
        embedding: EmbeddingConfig,
        key: str | None,
        bucket: str,
        retry: RetryPolicy,
    ) -> None:
        self._files = BucketFiles(bucket, retry)
        super().__init__(service, embedding, key, retry)

    def upload(self, path: Path, name: str) -> str:
        """See `BatchService`."""
        uri = self._files.uri(name, REQUESTS)
        self._files.upload(path, uri)
        return uri

    def file_named(self, name: str) -> str:
        """See `BatchService`."""
        return self._files.uri(name, REQUESTS)

    def create(self, file: str, display_name: str) -> RemoteJob:
        """See `BatchService`."""
        results = f"{file.removesuffix(REQUESTS)}{RESULTS}/"
        source = types.BatchJobSource(format="jsonl", gcs_uri=[file])
        config = types.CreateBatchJobConfig(
            display_name=display_name,
            dest=types.BatchJobDestination(format="jsonl", gcs_uri=results),
        )
        batches = self._calls.sdk.batches
        found = self._calls.ask(
            lambda: batches.create(model=self._model, src=source, config=config)
        )
        return self._read(found)

    def find(self, display_name: str, not_before: float) -> RemoteJob | None:
        """See `BatchService`; the service itself looks for the name."""
        for jobs in self._pages(f'displayName="{display_name}"'):
            for job in jobs:
                if job.display_name == display_name:
                    return job
        return None

    def download(self, job: RemoteJob, path: Path) -> None:
        """See `BatchService`; the results may be in several files."""
        if not job.results:
            raise CallRejected(f"the batch job {job.name} names no results", code=MISSING_FILE)
        self._files.download(job.results[0], path)

    def delete_file(self, file: str) -> None:
        """See `BatchService`."""
        with self._leaving(file):
            self._files.delete(file)
