"""The command that writes another output with the vectors of a dataset of another layout."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence

import click

from bulkembed.pipeline.cli.commands import BEAM_ARGS, TYPED
from bulkembed.schemas.errors import BulkEmbedError, OtherLayout


@contextlib.contextmanager
def naming_commands(ctx: click.Context) -> Iterator[None]:
    """Let a refusal of another layout name the whole command that keeps the vectors.

    Raises:
        ConfigError: with that command.
    """
    try:
        yield
    except OtherLayout as error:
        raise error.with_command(command_with_reuse(ctx, error.reuse)) from None


def command_with_reuse(ctx: click.Context, dataset: str) -> str:
    """Return the command of a context as it was typed, with a new output that reuses a dataset.

    Args:
        ctx: of `run` or `estimate`.
        dataset: the present output, with the date in place of `{date}`.
    """
    output = _with_suffix(ctx.params["output"], _free_suffix(dataset))
    words = list(_without(ctx.meta[TYPED], "--reuse"))
    places = list(_places(words, "--output"))
    for at, width in places:
        words[at : at + width] = ["--output", output] if width == 2 else [f"--output={output}"]
    if not places:
        words += ["--output", output]
    for one in dict.fromkeys((*ctx.params["reuse"], dataset)):
        words += ["--reuse", one]
    beam_args = ctx.meta.get(BEAM_ARGS, ())
    words += ["--", *beam_args] if beam_args else []
    return shlex.join([*ctx.command_path.split(), *words])


def _places(words: Sequence[str], flag: str) -> Iterator[tuple[int, int]]:
    """Yield where a flag is among words, and how many of them it takes with its value."""
    for at, word in enumerate(words):
        if word == flag:
            yield at, 2
        elif word.startswith(f"{flag}="):
            yield at, 1


def _without(words: Sequence[str], flag: str) -> Iterable[str]:
    left_out = {at + n for at, width in _places(words, flag) for n in range(width)}
    return (word for at, word in enumerate(words) if at not in left_out)


def _free_suffix(dataset: str) -> int:
    """Return the first number from 2 on with which the path of a dataset is not one itself."""
    from bulkembed.transforms.dataset import run_file
    from bulkembed.transforms.dataset.dataset import Dataset

    number = 2
    with contextlib.suppress(BulkEmbedError):  # If that is not known, the next run says so.
        while run_file.find(Dataset.open(_with_suffix(dataset, number))) is not None:
            number += 1
    return number


def _with_suffix(path: str, number: int) -> str:
    """Return a path or URI with a number in place of the one that an earlier command gave it."""
    path, mark, options = path.partition("?")
    return f"{re.sub(r'-[2-9]$', '', path.rstrip('/'))}-{number}{mark}{options}"
