"""What data looks like: configuration, models, rows, units of work and errors."""
