from __future__ import annotations

import click
import pytest

from bulkembed.pipeline.cli.options import Duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90), ("30s", 30), ("10m", 600), ("2h", 7200), ("1h30m", 5400), ("1m30s", 90),
        ("1h2m3s", 3723), ("0.5s", 0.5), ("1.5h", 5400), (" 2H ", 7200), ("0", 0), (7, 7),
        (2.5, 2.5),
    ],
)  # fmt: skip
def test_a_time_is_seconds(text: object, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", " ", "x", "-1", "1d", "30m1h", "h", "1h-5m", "1,5h", "nan"])
def test_anything_else_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write 30s, 10m, 2h or 1h30m"):
        Duration().convert(text, None, None)
