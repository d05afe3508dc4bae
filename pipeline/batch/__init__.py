"""Batch jobs: planning, submitting, waiting for and collecting them."""
