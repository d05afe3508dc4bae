"""The text that a row of the output was made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transforms.engine.row_texts import RowText
from transforms.storage.row_run import RowRun


def source_text(run: RowRun, row: Mapping[str, Any]) -> RowText:
    """Title and text as they stand in the input; of a passage, the characters that it is.

    Args:
        run: the rows of the unit.
        row: `source_row`, and where rows are passages `start` and `end` as well.
    """
    offset = row["source_row"] - run.first_row
    text = run.texts[offset]
    return RowText(run.titles[offset], text and text[row.get("start") : row.get("end")])
