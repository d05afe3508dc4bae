"""WebDataset shards, made of names and bytes."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable


def tar_of(members: Iterable[tuple[str, bytes]], kind: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar archive with files of these names, in order."""
    sink = io.BytesIO()
    with tarfile.open(
        fileobj=sink, mode="w", format=kind, encoding="utf-8", errors="surrogateescape"
    ) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return sink.getvalue()
