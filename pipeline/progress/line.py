"""A snapshot as facts by name: one line of key=value, or JSON."""

from __future__ import annotations

from pipeline.progress.snapshot import Snapshot
from schemas.quota import QuotaKind

Fact = int | float | str | None


def facts_of(snapshot: Snapshot) -> dict[str, Fact]:
    """All numbers by name, units last; None for what is not known, and for a limit there is not.

    The names are always the same ones but for `dead_CODE`: there is one for each code that occurs.
    """
    rows = snapshot.rows
    facts: dict[str, Fact] = {
        "done": snapshot.done,
        "rows": rows.rows_in,
        "embedded": rows.embedded,
        "skipped": rows.skipped,
        "dead": rows.dead,
        "ready": snapshot.ready,
        "left": rows.left,
        "shared": snapshot.shared,
        "shared_all": snapshot.shared_all,
        "rows_per_s": round(snapshot.rows_per_s, 1),
        "texts_per_s": round(snapshot.texts_per_s, 1),
        "in_air": snapshot.in_air,
    }
    for kind in QuotaKind:
        quota = snapshot.quota
        facts[f"{kind}_used"] = None if quota is None else quota.used[kind]
        facts[f"{kind}_limit"] = None if quota is None else quota.limits[kind]
    facts |= {
        "texts": snapshot.texts,
        "tokens": snapshot.tokens,
        "tokens_all": snapshot.tokens_all,
        "usd": _rounded(snapshot.usd, 6),
        "usd_all": _rounded(snapshot.usd_all, 6),
        "waiting": None if snapshot.waiting is None else str(snapshot.waiting),
        "elapsed_s": round(snapshot.elapsed_s, 1),
        "left_s": _rounded(snapshot.left_s, 1),
        "calls": snapshot.sent,
        "retried": snapshot.retried,
        "refused": snapshot.refused,
        "ending": snapshot.ending,
    }
    return facts | {f"dead_{code}": rows for code, rows in snapshot.codes.items()}


def sentence_of(snapshot: Snapshot) -> str:
    """The message of a progress event, whose facts stand beside it."""
    return f"{snapshot.done:,} of {snapshot.rows.rows_in:,} rows are done"


def line_of(snapshot: Snapshot) -> str:
    """One line for people and grep: `progress done=8000 rows=11459 ...`, without what is None."""
    facts = facts_of(snapshot).items()
    return " ".join(["progress", *(f"{name}={_word(v)}" for name, v in facts if v is not None)])


def _word(value: float | str) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
