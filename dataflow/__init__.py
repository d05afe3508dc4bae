"""Packaging for Dataflow: nothing of it runs in a job."""
