"""The entry point of the flex template: turns its parameters into `bulkembed run` on Dataflow.

The launcher passes the template's parameters and Dataflow's own flags in one list. Flags that
`bulkembed run` knows go before the bare `--`, all others after it.
"""

from __future__ import annotations

import sys

from bulkembed.pipeline.cli.main import main
from bulkembed.pipeline.cli.options import OPTIONS

FLAGS = {name: option for option in OPTIONS for name in (option.opts[0], *option.aliases)}


def command(arguments: list[str]) -> list[str]:
    """Return the arguments of `bulkembed` for those of the launcher, all as --name=value."""
    ours: list[str] = []
    beams: list[str] = []
    for argument in arguments:
        name, _, value = argument.partition("=")
        option = FLAGS.get(name.replace("_", "-"))
        if option is None or name == "--runner":
            beams.append(argument)
        elif option.is_flag:
            ours += (option.opts if value.lower() == "true" else option.secondary_opts)[:1]
        else:
            ours += [option.opts[0], value]
    return ["run", *ours, "--", *beams]


if __name__ == "__main__":
    main(command(sys.argv[1:]))
