"""`python -m bulkembed` runs the command line."""

from __future__ import annotations

from bulkembed.pipeline.runners import signals

if __name__ == "__main__":
    signals.exit_on_interrupt()

from bulkembed.pipeline.cli.main import main

if __name__ == "__main__":
    main()
