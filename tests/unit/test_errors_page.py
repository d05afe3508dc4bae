"""`docs/errors.md` says what the code does."""

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

PAGE = Path(__file__).parents[2] / "docs/errors.md"
ABOUT: dict[type[CallError], str] = {
    JobRefused: "the job",
    QuotaExceeded: "the service's state",
    Unavailable: "the service's state",
    CallRefused: "the call's make-up",
    Intercepted: "a proxy",
}


def rows_after(heading: str) -> list[list[str]]:
    """The cells of a table's rows."""
    text = PAGE.read_text().split(heading, 1)[1]
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
    assert rows_after("# Errors of calls") == [row(verdict) for verdict in TABLE]


def test_every_code_of_a_dead_letter_is_on_the_page() -> None:
    assert [name for name, _ in rows_after("## Dead letters")] == [f"`{code}`" for code in DeadCode]
