"""The command line: subcommands, their options, and how errors are shown."""
