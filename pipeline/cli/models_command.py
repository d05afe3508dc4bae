"""`bulkembed models`: the registry of models as a table."""

from __future__ import annotations

import datetime as dt
import sys

import click

from bulkembed.pipeline.cli.commands import Command
from bulkembed.schemas.models import MODELS, ModelSpec, TaskType, UnitLength

HEADINGS = (
    "model", "default dim", "dims", "max tokens", "task", "unit length", "USD / 1M tokens",
    "batch", "state", "successor",
)  # fmt: skip


@click.command(cls=Command)
def models() -> None:
    """List the models: dimensions, tokens, tasks, price and state."""
    from bulkembed.pipeline.cli.show import show_table

    today = dt.datetime.now(dt.UTC).date()
    rows = (_cells(spec, today) for spec in MODELS.values())
    # A pager or a wider window shows all of a line; a folded table cannot be read.
    show_table(HEADINGS, rows, sys.stdout, folds=False)
    click.echo(f"\ntask types: {', '.join(TaskType)}")
    click.echo("task: field = sent as the request's taskType; prefix = words before the text")


def _cells(spec: ModelSpec, today: dt.date) -> tuple[str, ...]:
    advised = f" ({', '.join(map(str, spec.advised_dims))})" if spec.advised_dims else ""
    unit = {
        UnitLength.ALWAYS: "all dims",
        UnitLength.DEFAULT_DIM: f"at {spec.default_dim}",
        UnitLength.NEVER: "no",
    }[spec.unit_length]
    return (
        spec.name,
        str(spec.default_dim),
        spec.dims() + advised,
        f"{spec.max_tokens:,}",
        spec.task_style,
        unit,
        _price(spec.price),
        _price(spec.batch_price),
        _state(spec, today),
        spec.successor or "",
    )


def _price(price: float | None) -> str:
    return "" if price is None else "free" if price == 0 else f"{price:.3f}"


def _state(spec: ModelSpec, today: dt.date) -> str:
    where = "Vertex only, " if spec.vertex_only else ""
    if spec.is_shut_down(today):
        return f"{where}shut down {spec.shut_down}"
    return f"{where}until {spec.shut_down}" if spec.shut_down else f"{where}available"
