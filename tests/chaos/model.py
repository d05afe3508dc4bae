"""What a dataset must hold and what it may cost, in plain Python: no code of the job is used.

The model knows the input, the settings and the service. It looks at the output as bytes and with
plain pyarrow. `Wrong` says what is not as it must be.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from chaos.history import POISON, Row, Rows, Settings

Floats = npt.NDArray[np.float64]
Snapshot = Mapping[str, bytes]
"""The files of an output by their names."""
Place = tuple[str, int]
"""Of a row: its file and its number there."""

PREFIXES = {
    "SEMANTIC_SIMILARITY": "task: sentence similarity | query: ",
    "CLUSTERING": "task: clustering | query: ",
    "RETRIEVAL_QUERY": "task: search result | query: ",
    "FACT_VERIFICATION": "task: fact checking | query: ",
}
"""Source: ai.google.dev/gemini-api/docs/embeddings, 2026-11."""
TOLERANCE = 1e-6


class Wrong(AssertionError):
    """A fault of the job."""


class Service(Protocol):
    """What the service answers when nothing goes wrong."""

    def vector(self, settings: Settings, title: str | None, text: str) -> Floats:
        """The vector of one text, shape (dim,), as the service sends it."""
        ...

    def key(self, settings: Settings, title: str | None, text: str) -> int:
        """What the service counts the text under."""
        ...


def as_sent(settings: Settings, row: Row) -> tuple[str | None, str]:
    """Title and text of the request for a row."""
    assert row.text is not None
    title = row.title if settings.titles else None
    if settings.model != "gemini-embedding-2":
        return title, row.text
    if settings.task == "RETRIEVAL_DOCUMENT":
        return None, f"title: {title or 'none'} | text: {row.text}"
    return None, PREFIXES[settings.task] + row.text


def text_hash(title: str | None, text: str) -> bytes:
    """The column `text_hash`, as docs/design.md says it."""
    parts = [(title or "").encode(), text.encode()]
    data = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
    return hashlib.blake2b(data, digest_size=16).digest()


def is_blank(row: Row) -> bool:
    """Whether there is nothing to embed."""
    return not (row.text or "").strip()


def is_sent(row: Row) -> bool:
    """Whether a row's text is sent to the service."""
    return row.id is not None and not is_blank(row)


def leftovers(names: Iterable[str]) -> list[str]:
    """Files that must not be there once a run has completed."""
    found = []
    for name in names:
        folder, _, base = name.rpartition("/")
        if (
            base.startswith(".tmp-")
            or name == "_run/lock.json"
            or name.endswith(".spill")
            or folder in ("_run/claims", "_run/stops")
        ):
            found.append(name)
    return sorted(found)


@dataclasses.dataclass
class Model:
    """What is known of one dataset; told of every step, and asked after each."""

    service: Service
    settings: Settings
    files: dict[str, Rows]
    shares: bool = True
    """Whether a text is paid for once over all units; on a store it is so within a unit only."""
    old: dict[str, list[Rows]] = dataclasses.field(default_factory=dict)
    """What files held before, as far as its rows may still be there."""
    cured: bool = False
    """Whether the service takes by now what it rejected."""
    cured_late: bool = False
    """Whether rows may have been rejected before that."""
    held: set[int] = dataclasses.field(default_factory=set)
    """Texts that are paid for, and whose vectors nothing has taken away."""
    licence: int = 0
    """How many texts may have been paid for in vain so far: what kills cost."""
    overpaid: int = 0

    # The input.

    def change(self, name: str, rows: Rows | None, present: Snapshot) -> None:
        """A file has other rows now, or is gone; answers kept for it may be of no use any more."""
        before = self.files.pop(name, None)
        if before is not None and before != rows:
            versions = self.old.setdefault(name, [])
            if before not in versions:
                versions.append(before)
            self.lose(self.keys_of(before), present)
        if rows is not None:
            self.files[name] = rows

    def lose(self, keys: set[int], present: Snapshot) -> None:
        """Vectors of these texts may be lost, but for those that can be found in the output."""
        self.held -= keys - self.embedded_keys(present) if self.shares else keys

    def restart(self, settings: Settings) -> None:
        """A `--overwrite` run begins: nothing is held any more."""
        self.settings = settings
        self.held.clear()
        self.old.clear()
        self.cured_late = False

    def keys_of(self, rows: Rows) -> set[int]:
        """What the service counts the texts of some rows under."""
        return {self._key(row) for row in rows if is_sent(row)}

    def _key(self, row: Row) -> int:
        return self.service.key(self.settings, *as_sent(self.settings, row))

    # The output.

    def embedded_keys(self, present: Snapshot) -> set[int]:
        """The texts whose vectors stand in the output; parts that cannot be read hold none."""
        by_hash = {}
        for rows in [*self.files.values(), *(v for vs in self.old.values() for v in vs)]:
            for row in rows:
                if is_sent(row):
                    by_hash[text_hash(*as_sent(self.settings, row))] = self._key(row)
        found = set()
        for name in present:
            if name.startswith("vectors/"):
                try:
                    table = pq.read_table(io.BytesIO(present[name]), columns=["text_hash"])
                except (OSError, ValueError):
                    continue
                found |= {by_hash[h] for h in table["text_hash"].to_pylist() if h in by_hash}
        return found

    def check(self, present: Snapshot) -> None:
        """Each row of the output is one of the input, with its id, hash, vector or reason.

        This holds at any moment, also after a kill.

        Raises:
            Wrong: it is not so.
        """
        self._places(present, complete=False, pruned=False)

    def check_stopped(self, present: Snapshot) -> None:
        """After a run that ended early in good order: no row is there more often than it may be."""
        self._check_counts(self._places(present, complete=False, pruned=False), complete=False)

    def check_complete(
        self, present: Snapshot, *, pruned: bool = False, overtaken: bool = False
    ) -> None:
        """After a run that ended with 0, with `--prune` if `pruned`: as `check_success`, no rest.

        Answers that an overtaken run kept, and its note to its workers, are there until the next
        run.

        Raises:
            Wrong: it is not so.
        """
        self.check_success(present, pruned=pruned)
        if "_SUCCESS" not in present:
            raise Wrong("_SUCCESS is not there")
        left = leftovers(present)
        if overtaken:
            left = [n for n in left if not (n.endswith(".spill") or n.startswith("_run/stops/"))]
        if left:
            raise Wrong(f"left behind: {', '.join(left)}")

    def check_success(self, present: Snapshot, *, pruned: bool = False) -> None:
        """Every row of the input is there once, and no old row of a file that is still there.

        Raises:
            Wrong: it is not so.
        """
        found = self._places(present, complete=True, pruned=pruned)
        self._check_counts(found, complete=True)
        for name, rows in self.files.items():
            missing = [n for n in range(len(rows)) if (name, n) not in found]
            if missing:
                raise Wrong(f"{len(missing)} rows of {name} are nowhere: {missing[:10]}")

    def _places(
        self, present: Snapshot, *, complete: bool, pruned: bool
    ) -> collections.Counter[Place]:
        found: collections.Counter[Place] = collections.Counter()
        for name in sorted(present):
            folder, _, base = name.partition("/")
            # Readers pass over names that begin with a dot: files that are not finished.
            if folder in ("vectors", "dead_letters") and not base.startswith("."):
                found.update(self._check_part(folder, name, present[name], complete, pruned))
        return found

    def _check_counts(self, found: Mapping[Place, int], *, complete: bool) -> None:
        for (name, number), count in sorted(found.items()):
            most = len(self.old.get(name, ())) + (name in self.files)
            if complete and name in self.files:
                most = 1
            if count > most:
                raise Wrong(f"row {number} of {name} is there {count} times")

    def _check_part(
        self, folder: str, part: str, data: bytes, complete: bool, pruned: bool
    ) -> list[Place]:
        try:
            rows = pq.read_table(io.BytesIO(data)).to_pylist()
        except (OSError, ValueError) as error:
            raise Wrong(f"{part} cannot be read: {error}") from error
        places = []
        for row in rows:
            name, number = row["source_file"], row["source_row"]
            versions = [self.files[name]] if name in self.files else []
            if not (complete and (versions or pruned)):
                versions = versions + self.old.get(name, [])
            meant = [rows[number] for rows in versions if number < len(rows)]
            where = f"row {number} of {name} in {part}"
            if not meant:
                raise Wrong(f"{where} is not in the input")
            check = self._vector_error if folder == "vectors" else self._dead_error
            errors = [check(one, row) for one in meant]
            if all(errors):
                raise Wrong(f"{where}: {errors[0]}")
            places.append((name, number))
        return places

    def _vector_error(self, row: Row, found: dict[str, object]) -> str | None:
        if found["id"] != row.id:
            return f"the id is {found['id']} and must be {row.id}"
        if is_blank(row):
            return "there is a vector, but no text"
        if POISON in str(row.text) and not self.cured:
            return "there is a vector, but the service rejects the text"
        title, text = as_sent(self.settings, row)
        if found["text_hash"] != text_hash(title, text):
            return "the text_hash is another text's"
        meant = self.service.vector(self.settings, title, text)
        if self.settings.normalize:
            meant = meant / np.linalg.norm(meant)
        vector = np.array(found["vector"], np.float64)
        if vector.shape != meant.shape:
            return f"the vector has {len(vector)} numbers and must have {len(meant)}"
        worst = float(np.abs(vector - meant).max())
        return f"the vector is off by up to {worst:.2g}" if not worst <= TOLERANCE else None

    def _dead_error(self, row: Row, found: dict[str, object]) -> str | None:
        if found["id"] != row.id:
            return f"the id is {found['id']} and must be {row.id}"
        if row.id is None:
            meant = ["missing_id"]
        elif is_blank(row):
            meant = ["blank_text"]
        elif POISON in str(row.text) and (not self.cured or self.cured_late):
            meant = ["refused"]
        else:
            return f"it is a dead letter ({found['code']}: {found['message']})"
        return None if found["code"] in meant else f"the code is {found['code']}, not {meant[0]}"

    # What it costs.

    def pay(self, paid: Mapping[int, int]) -> None:
        """Counts what the service was paid for since it was asked last.

        Raises:
            Wrong: for a text that is not in the input.
        """
        known = set[int]()
        for rows in [*self.files.values(), *(v for vs in self.old.values() for v in vs)]:
            known |= self.keys_of(rows)
        strange = [key for key in paid if key not in known]
        if strange:
            raise Wrong(f"{len(strange)} texts were paid for that are not in the input")
        for key, count in paid.items():
            self.overpaid += count - (key not in self.held)
            self.held.add(key)

    def check_paid(self) -> None:
        """Raises Wrong if more was paid twice than kills may have cost."""
        if self.overpaid > self.licence:
            raise Wrong(
                f"{self.overpaid} texts were paid for twice, and at most {self.licence} may be"
            )

    def completed(self, present: Snapshot, *, pruned: bool) -> None:
        """A run has ended with 0: kept answers are gone, and so are old rows."""
        self.old = {} if pruned else {n: v for n, v in self.old.items() if n not in self.files}
        self.held &= self.embedded_keys(present)

    def retried(self) -> None:
        """A `--retry-failed` has gone over all dead letters."""
        self.cured_late = False

    def has_old_rows(self) -> bool:
        """Whether rows of files that are gone may be in the output."""
        return bool(self.old)


def same(one: Snapshot, two: Snapshot, but: Sequence[str] = ()) -> list[str]:
    """The names of files in which two outputs differ, but for some folders or files."""
    names = one.keys() | two.keys()
    return sorted(
        name
        for name in names
        if one.get(name) != two.get(name) and not any(name.startswith(prefix) for prefix in but)
    )
