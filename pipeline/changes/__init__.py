"""What changed between two complete states of a dataset, for programs that load it."""
