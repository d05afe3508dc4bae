"""docs/errors.md and docs/dead_letters.md agree with the code."""

from __future__ import annotations

import re
from pathlib import Path

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import (
    CallError,
    CallRejected,
    Intercepted,
    JobRejected,
    QuotaExceeded,
    Unavailable,
)
from bulkembed.transforms.clients.classification import RULES, ErrorRule

DOCS = Path(__file__).parents[2] / "docs"
ABOUT: dict[type[CallError], str] = {
    JobRejected: "the job",
    QuotaExceeded: "the service",
    Unavailable: "the service",
    CallRejected: "the request",
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


def row(rule: ErrorRule) -> list[str]:
    words = f"`{rule.pattern.pattern}`" if rule.pattern else ""
    words = "(an HTML page)" if rule.page else f"({rule.about})" if rule.about else words
    statuses = rule.status_label or ", ".join(map(str, sorted(rule.statuses)))
    codes = ", ".join(sorted(rule.codes))
    return [f"`{rule.name}`", statuses, codes, words, ABOUT[rule.error], rule.cure]


def test_the_table_of_errors_is_that_of_the_code() -> None:
    assert rows_after("errors.md", "## What decides the class") == [row(rule) for rule in RULES]


def test_every_code_of_a_dead_letter_is_on_the_page() -> None:
    named = [name for name, _ in rows_after("dead_letters.md", "## Codes")]
    assert named == [f"`{code}`" for code in DeadCode]
