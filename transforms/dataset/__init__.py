"""The dataset: its layout, parts, commit records, locks, notes and kept answers."""
