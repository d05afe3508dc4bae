"""The progress of a run, shown as a live panel, as log lines or as JSON events."""
