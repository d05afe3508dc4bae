"""`python -m pipeline` is `bulkembed`."""

from __future__ import annotations

from pipeline import signals

if __name__ == "__main__":
    signals.end_at_once()

from pipeline.cli.main import main

if __name__ == "__main__":
    main()
