"""The ledger of a dataset's batch jobs, in `_run/batch/`.

A job has an entry, `NAME.json`, and a list of its texts, `NAME.texts`. Once it has ended,
`NAME.parquet` has its vectors, `NAME.rejected` what the service said about single texts, and
`NAME.missing` the texts without an answer. With media, `NAME.rows` has the contents of rows that
were read for the job; if it is lost, they are read again. An entry is written before the service
is asked for what it says, so whatever is killed, the next run knows which jobs may exist. Of a
closed job nothing but its cost is left, in two copies: the entry and `NAME.closed`.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import logging
import secrets
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.ledger_entry import BatchJob, LedgerState
from bulkembed.schemas.serialization import from_plain, to_plain
from bulkembed.transforms.core.hashing import Keys, keys
from bulkembed.transforms.dataset.atomic_files import read_bytes
from bulkembed.transforms.dataset.dataset import READ_THREADS, Dataset
from bulkembed.transforms.dataset.kept_answers import FLAGS
from bulkembed.transforms.dataset.layout import BATCH, PART_SUFFIX
from bulkembed.transforms.dataset.row_contents import RowContents

ENTRY_SUFFIX, COPY_SUFFIX, TEXTS_SUFFIX, MISSING_SUFFIX, REJECTED_SUFFIX, ROWS_SUFFIX = (
    ".json", ".closed", ".texts", ".missing", ".rejected", ".rows"
)  # fmt: skip
_HEADER = struct.Struct("<8sQI")
_MAGIC = b"BEJOBTX1"

JOB_TEXT = np.dtype([("key", "<u8"), ("flag", "u1")])
"""A text of a job: the key of its hash, and whether it is cut, as an index of `FLAGS`."""
JobTexts = npt.NDArray[Any]
"""Shape (n,), type JOB_TEXT; keys ascending and distinct."""
NO_TEXTS: JobTexts = np.empty(0, JOB_TEXT)

log = logging.getLogger("bulkembed")


def new_name() -> str:
    """Return a display name that no other job has."""
    return f"bulkembed-{secrets.token_hex(8)}"


def job_texts(hashes: Sequence[bytes], flags: Sequence[bool | None]) -> JobTexts:
    """Return the texts of a job, given their hashes and whether each is cut; None if unknown."""
    texts = np.empty(len(hashes), JOB_TEXT)
    texts["key"] = keys(hashes)
    texts["flag"] = [FLAGS.index(flag) for flag in flags]
    return texts[np.unique(texts["key"], return_index=True)[1]]


def digest_of(texts: JobTexts) -> str:
    """Return the digest of the texts of a job."""
    return hashlib.blake2b(texts["key"].tobytes(), digest_size=16).hexdigest()


class BatchLedger:
    """The batch jobs of a dataset; only the launcher that holds the dataset writes them.

    Args:
        dataset: the dataset; also an attribute.

    Raises:
        OutputError: the ledger cannot be read.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        names = dataset.names(BATCH)
        suffixes = (ENTRY_SUFFIX, COPY_SUFFIX)
        entries = sorted({name.rpartition(".")[0] for name in names if name.endswith(suffixes)})
        with concurrent.futures.ThreadPoolExecutor(READ_THREADS) as pool:
            found = list(pool.map(self._read, entries))
        self._jobs = _in_order(found)
        self._keys: dict[tuple[str, str], Keys | None] = {}
        """The keys in the files of jobs, by the display name and the suffix."""
        known = {f"{name}{suffix}" for name, job in self._jobs.items() for suffix in _needed(job)}
        self.leftovers = tuple(f"{BATCH}/{name}" for name in names if name not in known)
        """Files of jobs that are closed or have no entry, which nothing needs."""

    @property
    def jobs(self) -> tuple[BatchJob, ...]:
        """All jobs, in the order of their planning."""
        return tuple(self._jobs.values())

    def of_state(self, *states: LedgerState) -> tuple[BatchJob, ...]:
        """Return the jobs in some states, in the order of their planning."""
        return tuple(job for job in self.jobs if job.state in states)

    def add(self, job: BatchJob, texts: JobTexts) -> None:
        """Enter a planned job with its texts.

        Raises:
            OutputError: the ledger cannot be written.
        """
        self._write(job, TEXTS_SUFFIX, texts)
        self.put(job)

    def put(self, job: BatchJob) -> None:
        """Write the entry of a job.

        Raises:
            OutputError: the ledger cannot be written.
        """
        self.dataset.write_json(f"{BATCH}/{job.display_name}{ENTRY_SUFFIX}", to_plain(job))
        before = self._jobs.get(job.display_name)
        self._jobs[job.display_name] = job
        if before is None or before.planned_at != job.planned_at:
            self._jobs = _in_order(self._jobs.values())
        if job.state is LedgerState.COLLECTED and not job.answers:
            self._keys.pop((job.display_name, TEXTS_SUFFIX), None)

    def drop(self, job: BatchJob) -> None:
        """Delete a job that was never created."""
        self.dataset.delete([f"{BATCH}/{job.display_name}{suffix}" for suffix in _SUFFIXES])
        del self._jobs[job.display_name]
        self._forget(job)

    def close(self, job: BatchJob) -> None:
        """Close a job whose answers are no longer needed; its entry stays, for its cost.

        Raises:
            OutputError: the ledger cannot be written.
        """
        closed = dataclasses.replace(job, state=LedgerState.CLOSED, answers="")
        path = f"{BATCH}/{job.display_name}"
        self.dataset.write_json(f"{path}{COPY_SUFFIX}", to_plain(closed))
        self.put(closed)
        kept = (ENTRY_SUFFIX, COPY_SUFFIX)
        self.dataset.delete(f"{path}{suffix}" for suffix in _SUFFIXES if suffix not in kept)
        self._forget(job)

    def write_missing(self, job: BatchJob, texts: JobTexts) -> None:
        """Write the texts that a job did not answer.

        Raises:
            OutputError: the ledger cannot be written.
        """
        self._write(job, MISSING_SUFFIX, texts)

    def save_rows(self, job: BatchJob, contents: RowContents) -> None:
        """Keep what was learned about the contents of rows with a job, until it is closed.

        Raises:
            OutputError: the ledger cannot be written.
        """
        data = contents.unsaved()
        if data:
            self.dataset.write(f"{BATCH}/{job.display_name}{ROWS_SUFFIX}", data)

    def row_contents(self) -> RowContents:
        """Return what is known about the contents of rows; of two jobs the later one counts.

        Raises:
            OutputError: a file cannot be read.
        """
        contents = RowContents()
        for job in self.jobs:
            if job.state is not LedgerState.CLOSED:
                path = _path(self.dataset, job, ROWS_SUFFIX)
                contents.load(read_bytes(self.dataset.filesystem, path) or b"")
        return contents

    def texts(self, job: BatchJob) -> JobTexts | None:
        """Return the texts of a job; None if their file is lost or damaged."""
        return read_job_texts(self.dataset, job)

    def unanswered(self, job: BatchJob) -> JobTexts | None:
        """Return the texts that a job that has ended did not answer; None as for `texts`."""
        if job.state is LedgerState.FAILED:
            return self.texts(job)
        return _read_texts(self.dataset, job, MISSING_SUFFIX) if job.missing else NO_TEXTS

    def text_keys(self, job: BatchJob) -> Keys | None:
        """Return the keys of `texts`; they are read once, and in memory while they are needed."""
        return self._kept(job, TEXTS_SUFFIX, self.texts)

    def unanswered_keys(self, job: BatchJob) -> Keys | None:
        """Return the keys of `unanswered`, as `text_keys` does."""
        if job.state is LedgerState.FAILED:
            return self.text_keys(job)
        return self._kept(job, MISSING_SUFFIX, self.unanswered)

    def _kept(
        self, job: BatchJob, suffix: str, read: Callable[[BatchJob], JobTexts | None]
    ) -> Keys | None:
        name = (job.display_name, suffix)
        if name not in self._keys:
            texts = read(job)
            self._keys[name] = None if texts is None else texts["key"].copy()
        return self._keys[name]

    def _forget(self, job: BatchJob) -> None:
        for suffix in (TEXTS_SUFFIX, MISSING_SUFFIX):
            self._keys.pop((job.display_name, suffix), None)

    def _write(self, job: BatchJob, suffix: str, texts: JobTexts) -> None:
        data = texts.tobytes()
        header = _HEADER.pack(_MAGIC, len(texts), isal_zlib.crc32(data))
        self.dataset.write(f"{BATCH}/{job.display_name}{suffix}", header + data)
        self._keys.pop((job.display_name, suffix), None)

    def _read(self, name: str) -> BatchJob:
        """Return an entry; of a damaged one the name is left, by which the job is found."""
        for suffix in (ENTRY_SUFFIX, COPY_SUFFIX):
            found = self._read_entry(f"{name}{suffix}")
            if found is not None:
                return found
        log.warning("batch job %s is looked up at the service", name)
        entry = BatchJob(
            display_name=name,
            state=LedgerState.UPLOADED,
            rows=0,
            tokens=0,
            token_bound=0,
            file_bytes=0,
            contents="",
            embedding_digest="",
            planned_at=0.0,
        )
        texts = self.texts(entry)
        return entry if texts is None else dataclasses.replace(entry, rows=len(texts))

    def _read_entry(self, name: str) -> BatchJob | None:
        """Return the entry in a file; None if the file is missing or damaged."""
        try:
            content = self.dataset.read_json(f"{BATCH}/{name}")
            return None if content is None else from_plain(content, BatchJob)
        except (OutputError, ValueError) as error:
            if isinstance(error, OutputError) and not error.damaged:
                raise
            log.warning("%s is damaged", self.dataset.path(BATCH, name))
            return None


def read_job_texts(dataset: Dataset, job: BatchJob) -> JobTexts | None:
    """Return the texts of a job; None if their file is lost or damaged.

    Raises:
        OutputError: the file cannot be read.
    """
    texts = _read_texts(dataset, job, TEXTS_SUFFIX)
    # A damaged entry has lost the digest.
    if texts is None or job.contents in ("", digest_of(texts)):
        return texts
    log.warning("%s has the texts of another job", _path(dataset, job, TEXTS_SUFFIX))
    return None


def _path(dataset: Dataset, job: BatchJob, suffix: str) -> str:
    return dataset.path(BATCH, f"{job.display_name}{suffix}")


def _read_texts(dataset: Dataset, job: BatchJob, suffix: str) -> JobTexts | None:
    path = _path(dataset, job, suffix)
    content = read_bytes(dataset.filesystem, path) or b""
    data = content[_HEADER.size :]
    if len(content) >= _HEADER.size:
        magic, count, checksum = _HEADER.unpack_from(content)
        is_whole = len(data) == count * JOB_TEXT.itemsize
        if magic == _MAGIC and is_whole and isal_zlib.crc32(data) == checksum:
            return np.frombuffer(data, JOB_TEXT)
    log.warning("%s is missing or damaged", path)
    return None


def _in_order(jobs: Iterable[BatchJob]) -> dict[str, BatchJob]:
    """Return jobs by their display names, in the order of their planning."""
    ordered = sorted(jobs, key=lambda job: (job.planned_at, job.display_name))
    return {job.display_name: job for job in ordered}


_SUFFIXES = (
    ENTRY_SUFFIX, COPY_SUFFIX, TEXTS_SUFFIX, MISSING_SUFFIX, REJECTED_SUFFIX, ROWS_SUFFIX,
    PART_SUFFIX,
)  # fmt: skip


def _needed(job: BatchJob) -> tuple[str, ...]:
    """Return the suffixes of the files that a job may need."""
    return (ENTRY_SUFFIX, COPY_SUFFIX) if job.state is LedgerState.CLOSED else _SUFFIXES
