from __future__ import annotations

import click
import pytest

from bulkembed.pipeline.cli.commands import Duration
from bulkembed.pipeline.cli.run_command import run


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90), ("30s", 30), ("10m", 600), ("2h", 7200), ("1h30m", 5400), ("1m30s", 90),
        ("1h2m3s", 3723), ("0.5s", 0.5), ("1.5h", 5400), (" 2H ", 7200), ("0", 0), (7, 7),
        (2.5, 2.5),
    ],
)  # fmt: skip
def test_a_duration_is_read_in_seconds(text: object, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", " ", "x", "-1", "1d", "30m1h", "h", "1h-5m", "1,5h", "nan"])
def test_an_invalid_duration_is_rejected_and_the_error_shows_the_form(text: str) -> None:
    with pytest.raises(click.BadParameter, match="Write 30s, 10m, 2h or 1h30m"):
        Duration().convert(text, None, None)


@pytest.mark.parametrize("flag", ["--timeout", "--max-runtime", "--grace"])
def test_a_number_without_a_unit_is_seconds_and_logs_a_warning(
    flag: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bulkembed.pipeline.logs.log.propagate", True)
    needed = ["--input", "a", "--output", "b"]
    with run.make_context("run", [*needed, flag, "90"]) as ctx:
        assert 90.0 in (ctx.params[name] for name in ctx.params)
    (warning,) = caplog.messages
    assert "90 has no unit and is read as seconds. Write 90s" in warning
    caplog.clear()
    run.make_context("run", [*needed, flag, "90s"])
    assert caplog.messages == []
