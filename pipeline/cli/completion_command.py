"""`bulkembed completion`: what makes a shell complete the words of `bulkembed`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_BULKEMBED_COMPLETE"
"""By which the shell's script asks for words; the name is click's."""


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script for SHELL that completes commands, flags and their values.

    In bash: eval "$(bulkembed completion bash)", best in ~/.bashrc; in zsh the same with zsh, in
    ~/.zshrc; in fish: bulkembed completion fish | source.
    """
    kind = get_completion_class(shell)
    assert kind is not None  # One of click's own.
    root = ctx.find_root()
    click.echo(kind(root.command, {}, "bulkembed", VARIABLE).source())
