"""What the flex template's launcher calls: parameters in, `bulkembed run` on Dataflow.

The launcher gives the template's parameters and Dataflow's own flags in one list; those that
`bulkembed run` knows go before the bare `--`, all others behind it.
"""

from __future__ import annotations

import sys

from bulkembed.pipeline.cli.main import main
from bulkembed.pipeline.cli.options import OPTIONS

FLAGS = {name: option for option in OPTIONS for name in (option.opts[0], *option.aliases)}


def command(given: list[str]) -> list[str]:
    """The arguments of `bulkembed` for those of the launcher, all of the form --name=value."""
    ours: list[str] = []
    beams: list[str] = []
    for argument in given:
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
