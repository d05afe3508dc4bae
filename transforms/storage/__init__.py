"""Files: finding and reading inputs, part files, commit records and the plan."""
