"""The shell around the stages: command line, graph, run and summary."""
