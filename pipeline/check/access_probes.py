"""Whether batch mode and media are open to the key."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

from google.genai import types

from bulkembed.pipeline.check.checked_model import CheckedModel, MissingVectors, ProbeResult
from bulkembed.pipeline.check.probe_calls import ProbeAnswer, words_of
from bulkembed.schemas.errors import CallError, CallRejected, JobRejected, QuotaExceeded
from bulkembed.schemas.media import IMAGE_TOKENS, MediaKind
from bulkembed.schemas.messages import number_of
from bulkembed.transforms.clients.batch_developer import ignore_experimental_warning
from bulkembed.transforms.clients.decoding import load_object
from bulkembed.transforms.core.media_content import SentPart, StoredMedia, media_content
from bulkembed.transforms.core.tokens import TokenEstimator

MISSING_FILE_NAME = "files/bulkembed-check"
"""A file that does not exist: a job of it cannot be created, and costs nothing."""
_ABOUT_THE_FILE = (400, 403, 404)
_CLOSED = ("no_quota", "permission", "precondition", "method", "location", "payment")
"""The rules by which a service rejects a project, or a method of it."""
_COLOURS = ((200, 30, 30), (30, 30, 200))
IMAGES = len(_COLOURS) + 1


def find_batch_mode(model: CheckedModel) -> ProbeResult:
    """Find whether batch jobs are open: list them, and create one of a file that does not exist."""
    try:
        listed = _list_jobs(model)
        if listed.error is not None:
            return ProbeResult(listed.words, False)
        if model.calls.service.vertexai:
            return ProbeResult("open: its jobs can be listed", True)
        created = _create_job(model)
    except (JobRejected, QuotaExceeded) as error:
        is_closed = isinstance(error, QuotaExceeded) or error.code in _CLOSED
        model.note(takes_batch_jobs=False)
        return ProbeResult(f"closed: {words_of(error)}", is_closed)
    if model.model in created.words:
        raise MissingVectors
    model.note(takes_batch_jobs=True)
    if created.error is None:
        return ProbeResult("200: a job of a file that does not exist was created", False)
    is_about_it = created.error.http_status in _ABOUT_THE_FILE
    return ProbeResult(f"open; of a missing file: {created.words}", is_about_it)


def _list_jobs(model: CheckedModel) -> ProbeAnswer:
    config = types.ListBatchJobsConfig(page_size=1)
    return model.calls.sdk_answer(lambda: model.calls.sdk.batches.list(config=config))


def _create_job(model: CheckedModel) -> ProbeAnswer:
    """Return the answer to the creation of a job; raises a rejection that is not about its file."""
    source = types.EmbeddingsBatchJobSource(file_name=MISSING_FILE_NAME)
    config = types.CreateEmbeddingsBatchJobConfig(display_name="bulkembed-check")
    batches = model.calls.sdk.batches
    ignore_experimental_warning()
    try:
        return model.calls.sdk_answer(
            lambda: batches.create_embeddings(model=model.model, src=source, config=config)
        )
    except JobRejected as error:
        if error.code != "permission" or not _names_file(error):
            raise
        return ProbeAnswer(b"", 1, error)


def _names_file(error: CallError) -> bool:
    return MISSING_FILE_NAME.partition("/")[2] in error.service_message


class _Bytes:
    """Images that wait to be sent; see `ByteStore`."""

    def __init__(self, images: Sequence[bytes]) -> None:
        self._data = b"".join(images)

    def read(self, start: int, size: int) -> bytes:
        return self._data[start : start + size]


def find_media(model: CheckedModel) -> ProbeResult:
    """Find whether images are embedded: two alone, and one of them beside a text."""
    images = [tiny_png(colour) for colour in _COLOURS]
    store, start = _Bytes(images), 0
    stored = []
    for image in images:
        size = len(image)
        stored.append(StoredMedia(MediaKind.IMAGE, "image/png", IMAGE_TOKENS, store, start, size))
        start += size
    estimator = TokenEstimator(model.spec.max_tokens)
    rows: list[list[SentPart]] = [[stored[0]], [stored[1]], ["A red square", stored[0]]]
    contents = [media_content(at, b"", row, model.spec, estimator) for at, row in enumerate(rows)]
    if model.calls.service.vertexai:
        contents = contents[:1]
    try:
        answer = model.calls.send(model.embedding, model.writer().body(contents), len(contents))
        vectors = answer.decoded(model.embedding.out_dim)
    except (CallRejected, JobRejected) as error:
        model.note_model(takes_media=False)
        return ProbeResult(f"closed: {words_of(error)}", False)
    model.note_model(takes_media=True)
    names = _detail_names(answer.body)
    model.note(token_details=names)
    tokens = None if vectors.media is None else vectors.media.image
    counted = "images are not counted" if tokens is None else f"{tokens:,} tokens of images"
    as_assumed = tokens in (None, IMAGE_TOKENS * len(contents)) and bool(names)
    return ProbeResult(
        f"{number_of(len(contents), 'vector')} for as many contents; {counted}", as_assumed
    )


def _detail_names(body: bytes) -> tuple[str, ...]:
    """Return the fields of an answer with the tokens by modality."""
    usage = load_object(body).get("usageMetadata")
    names = usage if isinstance(usage, dict) else {}
    return tuple(sorted(name for name in names if name.endswith("Details")))


def tiny_png(colour: tuple[int, int, int], side: int = 16) -> bytes:
    """Return an image of one colour, as PNG."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)

    rows = (b"\0" + bytes(colour) * side) * side
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    )
