"""docs/errors.md and docs/dead_letters.md agree with the code."""

from __future__ import annotations

import re
from pathlib import Path

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import (
    CallError,
    CallRefused,
    Intercepted,
    JobRefused,
    QuotaExceeded,
    Unavailable,
)
from bulkembed.transforms.core.verdict import TABLE, Verdict

DOCS = Path(__file__).parents[2] / "docs"
ABOUT: dict[type[CallError], str] = {
    JobRefused: "the job",
    QuotaExceeded: "the service",
    Unavailable: "the service",
    CallRefused: "the request",
    Intercepted: "a proxy",
}


def rows_after(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the rows of the first table below a heading."""
    text = (DOCS / page).read_text().split(heading, 1)[1]
    rows = [
        [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in text[text.index("|---") :].split("\n\n")[0].splitlines()
    ]
    return rows[1:]


def row(verdict: Verdict) -> list[str]:
    words = f"`{verdict.pattern.pattern}`" if verdict.pattern else ""
    words = "(an HTML page)" if verdict.page else f"({verdict.said})" if verdict.said else words
    statuses = verdict.others or ", ".join(map(str, sorted(verdict.statuses)))
    codes = ", ".join(sorted(verdict.codes))
    return [f"`{verdict.name}`", statuses, codes, words, ABOUT[verdict.error], verdict.cure]


def test_the_table_of_errors_is_that_of_the_code() -> None:
    assert rows_after("errors.md", "## What decides the class") == [
        row(verdict) for verdict in TABLE
    ]


def test_every_code_of_a_dead_letter_is_on_the_page() -> None:
    named = [name for name, _ in rows_after("dead_letters.md", "## Codes")]
    assert named == [f"`{code}`" for code in DeadCode]
