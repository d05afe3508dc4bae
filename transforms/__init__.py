"""The stages of the job, one a file, over plain functions that need no runner."""
