"""The contents of rows with media: fetched, checked, and put on a disk until they are sent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.media import GEMINI_EMBEDDING_2, MediaFault, MediaKind, media_tokens
from bulkembed.schemas.media_settings import MediaSettings
from bulkembed.transforms.core.content import sent_hash
from bulkembed.transforms.core.media_content import SentPart, StoredMedia, UriMedia, parts_hash
from bulkembed.transforms.dataset.unnamed_file import UnnamedFile
from bulkembed.transforms.inputs.filesystems import Location
from bulkembed.transforms.inputs.row_parts import MediaValue, RowPart
from bulkembed.transforms.inputs.rows import BadValue
from bulkembed.transforms.media.media_refs import MediaRef, place_of, refs_of
from bulkembed.transforms.media.media_types import true_type
from bulkembed.transforms.media.prepare_media import checked_type, prepare_media
from bulkembed.transforms.media.remote_files import RemoteFile
from bulkembed.transforms.units.distinct_contents import DistinctContents, Passage

FetchAhead = Callable[[Iterable[MediaRef]], Iterator[bytes | RemoteFile | MediaFault]]
"""Yields the bytes of each reference, in order, or why there are none; see `fetching`."""
_BY_PLACE = b"bulkembed: media at "
"""No file of media begins with these bytes."""
PartOrRef = str | tuple[MediaKind, MediaRef]


@dataclasses.dataclass(frozen=True, slots=True)
class SourceMedia:
    """What the output says about one medium of a row."""

    kind: MediaKind
    mime_type: str
    """The true type of the file."""
    size_bytes: int
    """Of the file, before anything is transcoded."""
    uri: str | None
    """Where it was read; None if the input has its bytes."""


@dataclasses.dataclass(frozen=True, slots=True)
class RowContent:
    """The content of a row: its place among the distinct contents, and its media."""

    passages: tuple[Passage, ...]
    media: tuple[SourceMedia, ...] = ()


_Source = tuple[MediaRef, MediaKind, bytes | RemoteFile]
PartSources = Sequence[str | _Source]
"""The texts of a row, and its files with their bytes, in order."""
_Pieces = list[tuple[SentPart, tuple[float, float] | None]]
"""The pieces of a part with their places in seconds or pages; a part that is not cut has one."""


def parts_with_refs(parts: Sequence[RowPart], base: Location | None = None) -> list[PartOrRef]:
    """Return the parts of a row, with a reference for each medium; nothing is fetched.

    Args:
        parts: the parts.
        base: the folder of relative paths.

    Raises:
        BadValue: a value is not media, or there is too much of it.
    """
    found: list[PartOrRef] = []
    for part in parts:
        if isinstance(part, MediaValue):
            folder = part.base or base
            refs = refs_of(part.value, kind=part.kind, where=part.where, base=folder)
            found += [(part.kind, ref) for ref in refs]
        else:
            found.append(part)
    images = sum(not isinstance(one, str) and one[0] is MediaKind.IMAGE for one in found)
    most = GEMINI_EMBEDDING_2.images
    if images > most:
        what = f"the row has {images} images, but a row may have at most {most}"
        raise BadValue(DeadCode.TOO_LARGE, what)
    return found


def hash_without_fetching(
    parts: Sequence[RowPart],
    embedding: EmbeddingConfig,
    base: Location | None = None,
    place: Callable[[MediaRef], str] = place_of,
) -> bytes | None:
    """Return the hash of a row's content, without reading files; None if its media is bad.

    Media that must be fetched counts by its place. Such a hash is only good for finding rows with
    the same content: vectors have the hash of the bytes.

    Args:
        parts: the parts.
        embedding: how a row that is one text is sent.
        base: the folder of relative paths.
        place: returns what identifies a file.
    """
    try:
        found = parts_with_refs(parts, base)
    except BadValue:
        return None
    hashed: list[str | tuple[MediaKind, bytes]] = []
    for one in found:
        if isinstance(one, str):
            hashed.append(one)
        elif one[1].data is None:
            hashed.append((one[0], _BY_PLACE + place(one[1]).encode("utf-8", "surrogatepass")))
        else:
            hashed.append((one[0], one[1].data))
    if is_media(found):
        return parts_hash(hashed)
    return sent_hash(embedding, None, str(hashed[0])) if hashed else None


def is_media(parts: Sequence[object]) -> bool:
    """Return whether parts are sent as they are: they are not one text alone."""
    return len(parts) > 1 or (len(parts) == 1 and not isinstance(parts[0], str))


class MediaRows:
    """Makes the contents of rows with media, and keeps their bytes in one file without a name.

    Equal contents are prepared once. The file lasts as long as a content refers to it.

    Args:
        sent: gets the contents.
        settings: how media is checked and prepared.
        fetch: reads what is not in the input.
        base: the folder of relative paths; None is the current one.
    """

    def __init__(
        self,
        sent: DistinctContents,
        settings: MediaSettings,
        fetch: FetchAhead,
        base: Location | None = None,
    ) -> None:
        self._sent = sent
        self._base = base
        self._settings = settings
        self._fetch = fetch
        self._spool = UnnamedFile()
        self._pieces: dict[bytes, tuple[Passage, ...]] = {}
        """The places of contents that are sent in pieces, by the hash of the whole."""
        self._faults: dict[tuple[bytes, tuple[str, ...]], BadValue] = {}

    @property
    def spooled_bytes(self) -> int:
        """How many bytes wait to be sent."""
        return self._spool.size

    def add(self, rows: Sequence[Sequence[RowPart]]) -> Iterator[RowContent | BadValue | None]:
        """Add rows; yield the content of each, or why it cannot be sent; None if it has no part.

        Raises:
            OutputError: the disk is full.
        """
        for sources in read_sources(rows, self._fetch, self._base):
            try:
                yield sources if isinstance(sources, BadValue) else self._content(sources)
            except BadValue as fault:
                yield fault

    def _content(self, sources: PartSources) -> RowContent | None:
        if not is_media(sources):
            if not sources:
                return None
            return RowContent(_uncut(self._sent.add(None, str(sources[0]))))
        content_hash = hash_of_sources(sources)
        facts = tuple(_facts(*one) for one in sources if not isinstance(one, str))
        place = self._sent.place_of(content_hash) or self._pieces.get(content_hash)
        if place is None:
            place = self._added(content_hash, sources)
        return RowContent(place, facts)

    def _added(self, content_hash: bytes, sources: Sequence[str | _Source]) -> tuple[Passage, ...]:
        """Add a content, or each piece of it; return their places."""
        parts = self._prepared(content_hash, sources)
        longest = max(len(pieces) for pieces in parts)
        if longest == 1:
            return self._sent.add_parts(content_hash, [pieces[0][0] for pieces in parts])
        hashed = [_hashed(one) for one in sources]
        places = []
        for number in range(longest):
            # Beside the pieces of one part, the other parts are the same each time.
            sent = [pieces[number if len(pieces) > 1 else 0] for pieces in parts]
            start, end = next(span for _, span in sent if span is not None)
            own = parts_hash(hashed, (start, end))
            (place,) = self._sent.place_of(own) or self._sent.add_parts(
                own, [part for part, _ in sent]
            )
            places.append(place._replace(start=start, end=end))
        if self._sent.dedupe:
            self._pieces[content_hash] = tuple(places)
        return tuple(places)

    def _prepared(self, content_hash: bytes, sources: Sequence[str | _Source]) -> list[_Pieces]:
        """Return the pieces of each part as they are sent; the same fault is found once."""
        columns = tuple(one[0].where for one in sources if not isinstance(one, str))
        known = self._faults.get((content_hash, columns))
        if known is not None:
            raise known
        try:
            parts: list[_Pieces] = [
                [(one, None)] if isinstance(one, str) else self._stored(*one) for one in sources
            ]
            if sum(len(pieces) > 1 for pieces in parts) > 1:
                what = "several files of the row are too long. Only one can be cut into pieces"
                raise BadValue(DeadCode.TOO_LONG, what)
            return parts
        except BadValue as fault:
            self._faults[content_hash, columns] = fault
            raise

    def _stored(self, ref: MediaRef, kind: MediaKind, data: bytes | RemoteFile) -> _Pieces:
        try:
            if isinstance(data, RemoteFile):
                return [(_by_uri(data, kind, self._settings), None)]
            prepared = prepare_media(data, kind, self._settings)
        except MediaFault as fault:
            raise _bad(ref, fault) from None
        found: _Pieces = []
        for one in prepared:
            at = self._spool.append(one.data)
            has_text = kind is MediaKind.PDF and self._settings.document_ocr
            stored = StoredMedia(
                kind, one.mime, one.tokens, self._spool, at, len(one.data), one.audio_tokens,
                has_text,
            )  # fmt: skip
            is_piece = one.start is not None and one.end is not None and len(prepared) > 1
            found.append((stored, (one.start or 0.0, one.end or 0.0) if is_piece else None))
        return found


def _uncut(places: tuple[Passage, ...]) -> tuple[Passage, ...]:
    """Return the places of a row that is one text: a piece is of media."""
    return tuple(place._replace(start=0, end=0) for place in places)


def read_sources(
    rows: Sequence[Sequence[RowPart]], fetch: FetchAhead, base: Location | None
) -> Iterator[PartSources | BadValue]:
    """Yield the texts and the files of each row, or why it cannot be sent.

    Args:
        rows: their parts.
        fetch: reads what is not in the rows.
        base: the folder of relative paths.
    """
    found = [_with_refs_or_fault(row, base) for row in rows]
    refs = [
        part[1]
        for row in found
        if not isinstance(row, BadValue)
        for part in row
        if not isinstance(part, str)
    ]
    fetched = fetch(refs)
    for row in found:
        if isinstance(row, BadValue):
            yield row
            continue
        media = iter([(*part, next(fetched)) for part in row if not isinstance(part, str)])
        try:
            yield [one if isinstance(one, str) else _source(*next(media)) for one in row]
        except BadValue as fault:
            yield fault


def hash_of_sources(sources: PartSources) -> bytes:
    """Return the hash of the content of a row with media."""
    return parts_hash([_hashed(one) for one in sources])


def _hashed(source: str | _Source) -> str | tuple[MediaKind, bytes]:
    if isinstance(source, str):
        return source
    _, kind, data = source
    return kind, data.identity if isinstance(data, RemoteFile) else data


def _by_uri(file: RemoteFile, kind: MediaKind, settings: MediaSettings) -> UriMedia:
    """Return a part of a file that the service reads itself."""
    mime, limits = checked_type(file.head, kind, settings), settings.limits
    most = media_tokens(
        kind,
        seconds=None if kind in (MediaKind.IMAGE, MediaKind.PDF) else limits.seconds(kind),
        pages=limits.pages,
        limits=limits,
    )
    has_text = kind is MediaKind.PDF and settings.document_ocr
    return UriMedia(kind, mime, file.uri, most, has_text)


def _with_refs_or_fault(
    row: Sequence[RowPart], base: Location | None
) -> list[PartOrRef] | BadValue:
    try:
        return parts_with_refs(row, base)
    except BadValue as fault:
        return fault


def _source(kind: MediaKind, ref: MediaRef, data: bytes | RemoteFile | MediaFault) -> _Source:
    if isinstance(data, MediaFault):
        raise _bad(ref, data)
    return ref, kind, data


def _facts(ref: MediaRef, kind: MediaKind, data: bytes | RemoteFile) -> SourceMedia:
    if isinstance(data, RemoteFile):
        return SourceMedia(kind, true_type(data.head), data.size, ref.uri)
    return SourceMedia(kind, true_type(data), len(data), ref.uri)


def _bad(ref: MediaRef, fault: MediaFault) -> BadValue:
    return BadValue(fault.code, f"{ref.where}: {fault.what}")
