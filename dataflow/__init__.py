"""Packaging for Dataflow; no job imports it."""
