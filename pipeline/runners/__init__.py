"""The Beam pipeline and its runners: worker processes, job servers, Dataflow and signals."""
