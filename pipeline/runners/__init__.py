"""Beam runners: the graph, worker processes, job servers, Dataflow and signals."""
