"""Rows of the input with media, as they are compared and staged."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import InputError
from bulkembed.schemas.inputs import InputFile
from bulkembed.transforms.inputs.rows import BadValue, RowBatch
from bulkembed.transforms.media.fetching import MediaFetcher
from bulkembed.transforms.sync.compared_rows import (
    Comparison,
    RowHashes,
    letter_hash,
    passages_hash,
)
from bulkembed.transforms.units.media_units import media_root
from bulkembed.transforms.units.sent_hashes import SentHashes, sent_hashes
from bulkembed.transforms.units.source_hashes import SourceHash, source_hashes, with_files


class MediaReader:
    """Reads what identifies rows with media; thread-safe.

    Args:
        compared: how rows are compared.
    """

    def __init__(self, compared: Comparison) -> None:
        self._compared = compared
        self._fetcher = MediaFetcher(compared.fetch, by_uri=compared.embedding.sends_uris)

    def read(self, batch: RowBatch, file: InputFile) -> tuple[RowBatch, RowHashes]:
        """Return rows of a file with one value for each file of media, and what identifies them.

        Raises:
            InputError: a store does not answer.
            OutputError: the disk is full.
        """
        compared = self._compared
        batch = with_files(batch, file.name, media_root(compared.media_root, file.found))
        rows = batch.parts or []
        sources = source_hashes(rows, compared.embedding, self._fetcher.versions)
        fault = next((one.fault for one in sources if one and one.fault), None)
        if fault is not None:
            raise InputError(
                f"{fault.what.rstrip('.')}. The size and time of each file of media are compared. "
                "Nothing was sent. Rerun the command when the store answers."
            )
        contents: Sequence[SentHashes | BadValue] = [()] * len(rows)
        if compared.by_bytes:
            contents = [*sent_hashes(rows, compared.embedding, self._fetcher.fetch_ahead)]
        return batch, self._hashes(batch, sources, contents)

    def _hashes(
        self,
        batch: RowBatch,
        sources: Sequence[SourceHash | None],
        contents: Sequence[SentHashes | BadValue],
    ) -> RowHashes:
        letters: list[bytes] = []
        found: list[bytes] = []
        for offset, (source, sent) in enumerate(zip(sources, contents, strict=True)):
            if source is None or offset in batch.bad:
                code, _ = batch.bad.get(offset, (DeadCode.BLANK_TEXT, ""))
                letter = content = letter_hash(code, batch.texts[offset])
            else:
                letter = content = source.hash
                if sent and not isinstance(sent, BadValue):
                    content = self._content_hash(sent)
            letters.append(letter)
            found.append(content)
        return RowHashes(letters, found, [bool(one and one.names_files) for one in sources])

    def _content_hash(self, sent: SentHashes) -> bytes:
        if not self._compared.embedding.rows_are_passages:
            return sent[0].hash
        places = np.array([one[1:] for one in sent], np.float64)
        return passages_hash([one.hash for one in sent], places.view(np.uint64))

    def close(self) -> None:
        """Cancel what is in flight."""
        self._fetcher.close()


@contextlib.contextmanager
def media_reader(compared: Comparison) -> Iterator[MediaReader | None]:
    """Yield what reads the media of rows; None if rows are texts alone."""
    if compared.embedding.media is None:
        yield None
        return
    reader = MediaReader(compared)
    try:
        yield reader
    finally:
        reader.close()
