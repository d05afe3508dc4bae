"""`bulkembed` with early units in small plans, which kills itself (-9) as `killer` does.

python small_plans.py EVENT PART N run --input ...
"""

from __future__ import annotations

import sys

from killer import die_at

from bulkembed.pipeline.cli.main import main
from bulkembed.pipeline.run import early_units

if __name__ == "__main__":
    early_units.MIN_ROWS, early_units.LEAST_ROWS = 60, 50
    die_at(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    main(sys.argv[4:])
